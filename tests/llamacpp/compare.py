#!/usr/bin/env python3
"""Compares the embedded engine with llama.cpp, token by token.

Both read the same F32 GGUF files: toy models of every supported family with random weights, toys for every way of
cutting text, and any file given with --model (the demo model, dequantised). For each prompt the token ids of the prompt
and those of the greedy answer must be the same in both. Any difference is printed and ends the run with exit code 1.

    cargo build -p infernet-engine --examples
    pip install -r tests/llamacpp/requirements.txt
    python tests/llamacpp/compare.py --examples target/debug/examples [--model demo-f32.gguf]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import xllamacpp

FAMILIES = ["llama", "qwen2", "qwen3", "phi3", "gemma3"]
CUTS = ["gpt-2", "default", "llama-bpe", "qwen2", "smollm", "sentence-piece"]
ANSWER_TOKENS = 48
# Every server of this run. One that is taken down waits for its listener now and then for ever, so none is.
SERVERS = []

PROMPTS = [
    "Tell me a story about a fox.",
    "<|im_start|>user\nTell me a story about a fox.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nHello! Who are you?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nTell me a story about an owl.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    "<|im_start|>user\nWhat colour is the sky?<|im_end|>\n<|im_start|>assistant\n",
    "Once upon a time, the cat and the dog sat in the garden and",
    "the",
    "  Two spaces,\n\n  two lines,\ttabs \n and  the   end.  ",
    "It's 12345 o'clock; they'LL say: \"3.14 != 2,718\" (or <so>)...",
    "Größe, naïve café, \u65e5\u672c\u8a9e, \U0001f98a and e\u0301.",
    "and the " * 40,
]
# The engine composes characters (NFC) for Qwen, as its own tokenizer does; llama.cpp does not.
COMPOSED_CUTS = {"qwen2"}


def post(address, route, body):
    request = urllib.request.Request(
        address + route, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def theirs(model, prompts, tokens):
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    params.cpuparams_batch.n_threads = 2
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.warmup = False
    params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.verbosity = -1
    server = xllamacpp.Server(params)
    SERVERS.append(server)
    answers = []
    for prompt in prompts:
        cut = post(
            server.listening_address,
            "/tokenize",
            {"content": prompt, "add_special": True, "parse_special": True},
        )["tokens"]
        answer = {"prompt_ids": cut, "ids": []}
        if tokens:
            made = post(
                server.listening_address,
                "/completion",
                {
                    "prompt": cut,
                    "n_predict": tokens,
                    "temperature": 0,
                    "samplers": ["temperature"],
                    "return_tokens": True,
                    "cache_prompt": False,
                },
            )
            answer["ids"], answer["stop"] = made["tokens"], made["stop_type"]
            if made["stop_type"] == "eos" and answer["ids"]:
                answer["ids"] = answer["ids"][: made["tokens_predicted"]]
        answers.append(answer)
    return answers


def ours(greedy, model, prompts, tokens):
    lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    run = subprocess.run(
        [greedy, str(model), str(tokens)],
        input=lines,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if run.returncode != 0:
        sys.exit(f"{greedy} failed on {model}: {run.stderr}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def compare(label, greedy, model, prompts, tokens):
    same, made = 0, 0
    for prompt, our, their in zip(
        prompts, ours(greedy, model, prompts, tokens), theirs(model, prompts, tokens), strict=True
    ):
        # An end token is part of llama.cpp's list and not of ours.
        if len(their["ids"]) == len(our["ids"]) + 1 and their.get("stop") == "eos":
            their["ids"].pop()
        made += len(our["ids"])
        if our["prompt_ids"] != their["prompt_ids"]:
            print(f"{label}: {prompt!r} is cut differently\n  {our['prompt_ids']}\n  {their['prompt_ids']}")
        elif our["ids"] != their["ids"]:
            print(f"{label}: {prompt!r} is answered differently\n  {our['ids']}\n  {their['ids']}")
        else:
            same += 1
    print(f"{label:24} {same:2} of {len(prompts)} prompts the same, {made} tokens")
    return same == len(prompts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=pathlib.Path, required=True, help="folder with `greedy` and `toy`")
    parser.add_argument("--model", type=pathlib.Path, action="append", default=[], help="an F32 GGUF")
    options = parser.parse_args()
    greedy, toy = str(options.examples / "greedy"), str(options.examples / "toy")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            model = pathlib.Path(folder) / f"{family}.gguf"
            subprocess.run([toy, family, model], check=True)
            good &= compare(f"family {family}", greedy, model, PROMPTS, ANSWER_TOKENS)
        for cut in CUTS:
            model = pathlib.Path(folder) / f"cut-{cut}.gguf"
            subprocess.run([toy, "llama", model, cut], check=True)
            prompts = [p for p in PROMPTS if cut not in COMPOSED_CUTS or "\u0301" not in p]
            good &= compare(f"cut {cut}", greedy, model, prompts, 0)
    for model in options.model:
        good &= compare(model.name, greedy, model, PROMPTS, ANSWER_TOKENS)
    sys.stdout.flush()
    # Without taking the servers down: see SERVERS.
    os._exit(0 if good else 1)


if __name__ == "__main__":
    main()
