"""The official Anthropic client for Python against a gateway of this network; see checks.py."""

import anthropic
from checks import FEATURES, GATEWAY, MODEL, QUESTION, WEATHER, check, done, raises

STORY = [{"role": "user", "content": QUESTION}]
TOOL = {"name": "weather", "description": "The weather.", "input_schema": WEATHER}


def message(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, max_tokens=12, messages=STORY, system="Be brief.")
    check(answer.type == "message" and answer.role == "assistant", "a message answers")
    check(answer.content[0].type == "text" and bool(answer.content[0].text), "it has text")
    check(answer.stop_reason == "max_tokens", "it tells why it ended")
    check(answer.usage.input_tokens > 0 and 0 < answer.usage.output_tokens <= 12, "its tokens are counted")
    check(answer.usage.model_extra["infernet"]["attempts"] >= 1, "its cost is told")
    blocks = [{"type": "text", "text": "Hello."}, {"type": "text", "text": QUESTION}]
    talk = [{"role": "user", "content": blocks}, {"role": "assistant", "content": "Once"}, *STORY]
    check(bool(client.messages.create(model=model, max_tokens=4, messages=talk).content), "blocks and turns are understood")


def stream(client: anthropic.Anthropic, model: str) -> None:
    events = list(client.messages.create(model=model, max_tokens=12, messages=STORY, stream=True))
    kinds = [event.type for event in events]
    check(kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], "a stream begins and ends")
    check(kinds.count("content_block_start") == kinds.count("content_block_stop") == 1, "its block is opened and closed")
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    check(bool(text) and 0 < events[-2].usage.output_tokens <= 12, "it has text and usage")
    with client.messages.stream(model=model, max_tokens=12, messages=STORY) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    check(len(pieces) > 1 and final.content[0].text == "".join(pieces), "the client puts a stream together")
    with client.messages.stream(model=model, max_tokens=200, messages=STORY) as stream:
        next(iter(stream.text_stream))
    check(True, "a stream can be closed early")


def tools(client: anthropic.Anthropic, model: str) -> None:
    asked = {"model": model, "max_tokens": 60, "messages": STORY, "tools": [TOOL], "tool_choice": {"type": "any"}}
    if "tools" not in FEATURES:
        raises(anthropic.UnprocessableEntityError, "tools are refused", lambda: client.messages.create(**asked))
        return
    answer = client.messages.create(**asked)
    call = next(block for block in answer.content if block.type == "tool_use")
    check(answer.stop_reason == "tool_use" and isinstance(call.input["city"], str), "a tool is called")
    with client.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    check(any(block.type == "tool_use" and "city" in block.input for block in final.content), "and in a stream")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Rain."}]}
    used = {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}
    told = [*STORY, {"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]
    answer = client.messages.create(model=model, max_tokens=8, messages=told, tools=[TOOL], tool_choice={"type": "none"})
    check(answer.usage.output_tokens > 0, "the result of a tool is taken")


def errors(client: anthropic.Anthropic, model: str) -> None:
    create = client.messages.create
    missing = lambda: create(model="no-such-model", max_tokens=4, messages=STORY)
    error = raises(anthropic.NotFoundError, "a model that nobody serves is not found", missing)
    check(error.body["error"]["type"] == "not_found_error", "errors are in Anthropic's words")
    server_tool = {"type": "web_search_20250305", "name": "web_search"}
    foreign = lambda: create(model=model, max_tokens=4, messages=STORY, tools=[server_tool])
    raises(anthropic.BadRequestError, "a tool that runs elsewhere is refused", foreign)
    unknown = lambda: create(model=model, max_tokens=4, messages=STORY, extra_body={"container": "x"})
    raises(anthropic.BadRequestError, "what is not supported is refused", unknown)


def count_tokens(client: anthropic.Anthropic, model: str) -> None:
    counted = client.messages.count_tokens(model=model, messages=STORY)
    check(counted.input_tokens > 0, "tokens are counted")


def main() -> None:
    client = anthropic.Anthropic(base_url=GATEWAY, api_key="none")
    model = MODEL or client.models.list().data[0].id
    message(client, model)
    stream(client, model)
    tools(client, model)
    errors(client, model)
    count_tokens(client, model)
    done()


if __name__ == "__main__":
    main()
