"""The official OpenAI client for Python against a gateway of this network.

INFERNET_GATEWAY names the gateway (http://127.0.0.1:46338); INFERNET_MODEL a model that it serves, else the first of
its list is taken. Prints what it checked; the exit status is 1 when something does not hold.
"""

import asyncio
import os
import sys

import openai

BASE = os.environ["INFERNET_GATEWAY"].rstrip("/") + "/v1"
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]

checks = 0


def check(holds: bool, what: str) -> None:
    global checks
    checks += 1
    if not holds:
        print(f"not so: {what}")
        sys.exit(1)
    print(f"ok: {what}")


def models(client: openai.OpenAI) -> str:
    listed = client.models.list().data
    check(len(listed) > 0, "models are listed")
    check(all(model.owned_by == "infernet" for model in listed), "models are this network's")
    name = os.environ.get("INFERNET_MODEL") or listed[0].id
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
    asyncio.run(at_once(model))
    print(f"{checks} checks hold")


if __name__ == "__main__":
    main()
