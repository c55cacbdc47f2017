"""The official Ollama client for Python against a gateway of this network; see checks.py."""

import json

import ollama
from checks import FEATURES, GATEWAY, MODEL, QUESTION, WEATHER, check, done, raises

STORY = [{"role": "user", "content": QUESTION}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER}}


def models(client: ollama.Client) -> str:
    listed = client.list().models
    check(len(listed) > 0, "models are listed")
    name = MODEL or listed[0].model
    shown = client.show(name)
    check("completion" in shown.capabilities, "a model is shown")
    check(("tools" in shown.capabilities) == ("tools" in FEATURES), "with what it can do")
    check(client.ps().models is not None, "and nothing is loaded here")
    check(client.pull(name).status == "success", "a model of the network needs no pulling")
    raises(ollama.ResponseError, "one that nobody serves cannot be", lambda: client.pull("no-such-model"))
    check(client.generate(name, "").done_reason == "load", "nor loading, which programs ask for")
    check(client.chat(name, []).done_reason == "load", "in a chat too")
    check(client.generate(name, "", keep_alive=0).done_reason == "unload", "nor unloading")
    check(client.generate(name, keep_alive="0s").done_reason == "unload", "with no prompt at all")
    raises(ollama.ResponseError, "one that nobody serves cannot be loaded", lambda: client.generate("no-such-model", ""))
    return name


def chat(client: ollama.Client, model: str) -> None:
    bounded = {"num_predict": 12, "temperature": 0.2, "num_ctx": 4096}
    answer = client.chat(model, STORY, options=bounded)
    check(answer.done and bool(answer.message.content), "a chat answers")
    check(answer.done_reason == "length" and 0 < answer.eval_count <= 12, "it tells why it ended, and its tokens")
    check(answer.prompt_eval_count > 0 and answer.total_duration >= answer.eval_duration > 0, "and what it took")
    parts = list(client.chat(model, STORY, stream=True, options=bounded))
    check(len(parts) > 2 and parts[-1].done and not parts[0].done, "a chat streams")
    check(bool("".join(part.message.content for part in parts)), "a stream has text")
    raises(ollama.ResponseError, "what is not supported is refused", lambda: client.chat(model, STORY, options={"mirostat": 1}))


def generate(client: ollama.Client, model: str) -> None:
    bounded = {"num_predict": 8}
    answer = client.generate(model, QUESTION, system="Be brief.", options=bounded)
    check(answer.done and bool(answer.response), "a text is generated")
    parts = list(client.generate(model, "Once upon a time", raw=True, stream=True, options=bounded))
    check(bool("".join(part.response for part in parts)) and parts[-1].eval_count <= 8, "and a bare one streams")


def tools(client: ollama.Client, model: str) -> None:
    if "tools" not in FEATURES:
        error = raises(ollama.ResponseError, "tools are refused", lambda: client.chat(model, STORY, tools=[TOOL]))
        check(error.status_code == 422, "with their status")
        return
    # Ollama has no word for a call that must be: whether there is one is the model's choice.
    answer = client.chat(model, STORY, tools=[TOOL], options={"num_predict": 8})
    check(answer.done, "tools are taken")
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]}
    told = [*STORY, called, {"role": "tool", "tool_name": "weather", "content": "Rain."}]
    check(client.chat(model, told, options={"num_predict": 4}).eval_count > 0, "and their results")


def structured(client: ollama.Client, model: str) -> None:
    if "json_schema" in FEATURES:
        answer = client.chat(model, STORY, format=WEATHER, options={"num_predict": 300, "temperature": 0})
        check(set(json.loads(answer.message.content)) == {"city"}, "an answer keeps to its schema")
    else:
        raises(ollama.ResponseError, "a schema is refused", lambda: client.chat(model, STORY, format=WEATHER))


def embed(client: ollama.Client, model: str) -> None:
    if "embeddings" in FEATURES:
        answer = client.embed(model, ["a fox", "a hedgehog"])
        check(len(answer.embeddings) == 2 and answer.prompt_eval_count > 0, "texts have vectors")
        check(len(client.embeddings(model, "a fox").embedding) == len(answer.embeddings[0]), "by the older route too")
    else:
        raises(ollama.ResponseError, "embeddings are refused", lambda: client.embed(model, "a fox"))


def main() -> None:
    client = ollama.Client(host=GATEWAY)
    model = models(client)
    chat(client, model)
    generate(client, model)
    tools(client, model)
    structured(client, model)
    embed(client, model)
    done()


if __name__ == "__main__":
    main()
