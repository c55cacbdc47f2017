"""The official OpenAI client for Python against a gateway of this network; see checks.py."""

import asyncio
import io
import json
import time

import openai
from checks import EMBEDDER, FEATURES, GATEWAY, MODEL, QUESTION, WEATHER, check, done, raises

BASE = GATEWAY + "/v1"
STORY = [{"role": "user", "content": QUESTION}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER}}


def models(client: openai.OpenAI) -> str:
    listed = client.models.list().data
    check(len(listed) > 0, "models are listed")
    check(all(model.owned_by == "infernet" for model in listed), "models are this network's")
    name = MODEL or listed[0].id
    check(client.models.retrieve(name).id == name, f"the model {name} is shown")
    return name


def document(client: openai.OpenAI, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=STORY, max_tokens=24)
    check(bool(raw.headers.get("x-infernet-request")), "the request is named in a header")
    check(bool(raw.headers.get("x-infernet-source")), "who answers is named in a header")
    answer = raw.parse()
    check(answer.model == model, "an answer names the model")
    check(bool(answer.choices[0].message.content), "an answer has text")
    check(answer.choices[0].finish_reason in ("stop", "length"), "an answer tells why it ended")
    usage = answer.usage
    check(0 < usage.completion_tokens <= 24, "the output is counted and bounded")
    check(usage.prompt_tokens + usage.completion_tokens == usage.total_tokens, "the total is the sum")
    summary = usage.model_extra["infernet"]
    check(summary["attempts"] >= 1 and isinstance(summary["cost_microusd"], int), "the cost is told")


def stream(client: openai.OpenAI, model: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model=model, messages=STORY, max_tokens=24, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    check(bool(text), "a stream has text")
    check(len(chunks) > 3, "a stream comes in pieces")
    check(all(chunk.model == model for chunk in chunks), "every chunk names the model")
    usage = chunks[-1].usage
    check(usage is not None and 0 < usage.completion_tokens <= 24, "the last chunk tells usage")
    check("infernet" in usage.model_extra, "and the cost")
    plain = list(client.chat.completions.create(model=model, messages=STORY, max_tokens=8, stream=True))
    check(all(chunk.usage is None and chunk.choices for chunk in plain), "no usage where none was asked for")
    early = client.chat.completions.create(model=model, messages=STORY, stream=True)
    next(iter(early))
    early.close()
    check(True, "a stream can be closed early")


def completion(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="Once upon a time", max_tokens=8)
    check(bool(answer.choices[0].text) and answer.usage.completion_tokens <= 8, "a completion answers")
    chunks = list(client.completions.create(model=model, prompt="Once upon a time", max_tokens=8, stream=True))
    check(bool("".join(chunk.choices[0].text for chunk in chunks)), "a completion streams")


def tools(client: openai.OpenAI, model: str) -> None:
    asked = {"model": model, "messages": STORY, "tools": [TOOL], "max_tokens": 60}
    if "tools" not in FEATURES:
        raises(openai.UnprocessableEntityError, "tools are refused", lambda: client.chat.completions.create(**asked))
        return
    answer = client.chat.completions.create(**asked, tool_choice="required")
    call = answer.choices[0].message.tool_calls[0]
    check(call.function.name == "weather", "a tool is called")
    check(isinstance(json.loads(call.function.arguments)["city"], str), "its arguments fit its schema")
    check(answer.choices[0].finish_reason == "tool_calls", "the answer ended for it")
    chunks = list(client.chat.completions.create(**asked, tool_choice="required", stream=True))
    pieces = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    arguments = "".join(piece.function.arguments or "" for piece in pieces)
    check(pieces[0].function.name == "weather" and "city" in json.loads(arguments), "a tool is called in a stream")
    told = STORY + [
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
    ]
    answer = client.chat.completions.create(model=model, messages=told, tools=[TOOL], tool_choice="none", max_tokens=8)
    check(answer.usage.completion_tokens > 0, "the result of a tool is taken")


def structured(client: openai.OpenAI, model: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": WEATHER}}
    asked = {"model": model, "messages": STORY, "response_format": form, "max_tokens": 300, "temperature": 0}
    if "json_schema" not in FEATURES:
        kind = openai.UnprocessableEntityError
        raises(kind, "a schema is refused", lambda: client.chat.completions.create(**asked))
        return
    answer = client.chat.completions.create(**asked)
    check(set(json.loads(answer.choices[0].message.content)) == {"city"}, "an answer keeps to its schema")


def embeddings(client: openai.OpenAI, model: str) -> None:
    texts = ["a fox", "a hedgehog", "three small ducks"]
    if "embeddings" not in FEATURES:
        kind = openai.UnprocessableEntityError
        raises(kind, "embeddings are refused", lambda: client.embeddings.create(model=model, input=texts))
        return
    for encoding in ("float", "base64"):
        answer = client.embeddings.create(model=model, input=texts, encoding_format=encoding)
        check([item.index for item in answer.data] == [0, 1, 2], f"every text has its vector ({encoding})")
    check(len({len(item.embedding) for item in answer.data}) == 1, "vectors are of one length")
    check(answer.usage.prompt_tokens > 0, "their tokens are counted")


def embedder(client: openai.OpenAI) -> None:
    if EMBEDDER is None:
        return
    one = client.embeddings.create(model=EMBEDDER, input="small green bird").data[0].embedding
    both = client.embeddings.create(model=EMBEDDER, input=["small green bird", "river"]).data
    check(abs(sum(value * value for value in one) - 1) < 1e-4, "an embedding has the length 1")
    near = max(abs(a - b) for a, b in zip(one, both[0].embedding))
    check(near < 1e-5, "a text has the same embedding beside others")
    chat = lambda: client.chat.completions.create(model=EMBEDDER, messages=STORY)
    raises(openai.UnprocessableEntityError, "a model for embeddings does not chat", chat)


def batch(client: openai.OpenAI, model: str) -> None:
    bodies = [{"model": model, "messages": STORY, "max_tokens": tokens} for tokens in (3, 4, 5, -1)]
    lines = [
        {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(bodies)
    ]
    text = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("input.jsonl", io.BytesIO(text)), purpose="batch")
    check(file.bytes == len(text) and file.purpose == "batch", "a file is kept")
    made = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "tests"}
    )
    began = time.monotonic()
    while made.status not in ("completed", "failed", "expired", "cancelled") and time.monotonic() < began + 60:
        made = client.batches.retrieve(made.id)
    check(made.status == "completed" and made.metadata == {"for": "tests"}, "a batch is completed")
    counts = made.request_counts
    check((counts.total, counts.completed, counts.failed) == (4, 3, 1), "its requests are counted")
    results = [json.loads(line) for line in client.files.content(made.output_file_id).text.splitlines()]
    check([one["custom_id"] for one in results] == [f"request-{number}" for number in range(3)], "results keep their order")
    check(all(one["response"]["body"]["choices"][0]["message"]["content"] for one in results), "results have text")
    wrong = json.loads(client.files.content(made.error_file_id).text)
    check(wrong["custom_id"] == "request-3" and wrong["response"]["status_code"] == 400, "what failed stands apart")
    check(made.id in [one.id for one in client.batches.list(limit=5)], "batches are listed")
    raises(openai.ConflictError, "what is over cannot be cancelled", lambda: client.batches.cancel(made.id))
    check(client.files.delete(file.id).deleted, "a file is deleted")
    raises(openai.NotFoundError, "and is gone", lambda: client.files.retrieve(file.id))


def responses(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input=QUESTION, max_output_tokens=12, temperature=0)
    check(answer.object == "response" and bool(answer.output_text), "a response has text")
    check(answer.status == "incomplete" and answer.usage.output_tokens <= 12, "a bounded response says so")
    told = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
    told.append({"role": "user", "content": [{"type": "input_text", "text": QUESTION}]})
    events = list(client.responses.create(model=model, input=told, instructions="Be brief.", stream=True, max_output_tokens=12))
    kinds = [event.type for event in events]
    check(kinds[:2] == ["response.created", "response.in_progress"], "a stream of events begins")
    check([event.sequence_number for event in events] == list(range(len(events))), "its events are numbered")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    check(kinds[-1] == "response.incomplete" and events[-1].response.output_text == text, "its end holds its text")
    with client.responses.stream(model=model, input="What is your name?", temperature=0) as stream:
        final = stream.get_final_response()
    check(bool(final.output_text), "the client puts a stream together")
    stored = lambda: client.responses.create(model=model, input="x", previous_response_id="resp_1")
    raises(openai.BadRequestError, "what needs a stored answer is refused", stored)
    if "tools" in FEATURES:
        tool = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
        answer = client.responses.create(model=model, input=QUESTION, tools=[tool], tool_choice="required", max_output_tokens=60)
        call = next(item for item in answer.output if item.type == "function_call")
        check("city" in json.loads(call.arguments), "a response calls a tool")
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
        told = [{"role": "user", "content": QUESTION}, call.model_dump(exclude_none=True), result]
        answer = client.responses.create(model=model, input=told, max_output_tokens=8)
        check(answer.usage.output_tokens > 0, "a response takes a tool's result")


def in_time(client: openai.OpenAI, model: str) -> None:
    hasty = client.with_options(timeout=0.001, max_retries=0)
    asked = lambda: hasty.chat.completions.create(model=model, messages=STORY)
    raises(openai.APITimeoutError, "a client that waits no longer is not held", asked)


def errors(client: openai.OpenAI, model: str) -> None:
    def raises(kind: type, code: str | None, **request: object) -> None:
        try:
            client.chat.completions.create(**{"model": model, "messages": STORY, **request})
        except kind as error:
            check(error.code == code, f"{kind.__name__} with the code {code}")
        else:
            check(False, f"{kind.__name__} for {request}")

    raises(openai.NotFoundError, "model_not_found", model="no-such-model")
    raises(openai.BadRequestError, None, messages=[])
    raises(openai.BadRequestError, "unsupported_field", extra_body={"chat_template": "x"})
    try:
        client.get("/nothing", cast_to=object)
    except openai.NotFoundError:
        check(True, "an unknown route is not found")
    else:
        check(False, "an unknown route answers")


def extension(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=STORY, max_tokens=4, extra_body={"policy": "fastest", "provider": {"sort": "price"}}
    )
    check(bool(answer.choices), "policy and provider are understood")


async def at_once(model: str) -> None:
    async with openai.AsyncOpenAI(base_url=BASE, api_key="none") as client:
        asked = [client.chat.completions.create(model=model, messages=STORY, max_tokens=8) for _ in range(6)]
        answers = await asyncio.gather(*asked)
    check(all(answer.choices[0].message.content for answer in answers), "six requests at once are answered")


def main() -> None:
    client = openai.OpenAI(base_url=BASE, api_key="none")
    model = models(client)
    document(client, model)
    stream(client, model)
    completion(client, model)
    errors(client, model)
    extension(client, model)
    tools(client, model)
    structured(client, model)
    embeddings(client, model)
    embedder(client)
    batch(client, model)
    responses(client, model)
    in_time(client, model)
    asyncio.run(at_once(model))
    done()


if __name__ == "__main__":
    main()
