"""Serves one GGUF with llama.cpp's own OpenAI server on a free port of the loopback.

Usage: llamacpp_server.py MODEL.gguf [SLOTS] [--context TOKENS] [--embeddings]. Prints the server's address as its first
line on stdout and serves until stdin is closed. Needs the PyPI package xllamacpp.
"""

import argparse
import os
import sys
from pathlib import Path

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("slots", type=int, nargs="?", default=4)
    parser.add_argument("--context", type=int, default=512, help="tokens of each slot")
    parser.add_argument("--embeddings", action="store_true", help="serve embeddings too")
    args = parser.parse_args()
    # llama.cpp logs to stdout: the address goes to the real one, its log to stderr.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.model_alias = {Path(args.model).stem}
    params.n_ctx = args.context * args.slots
    params.n_parallel = args.slots
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.endpoint_slots = True
    params.endpoint_props = True
    params.warmup = False
    if args.embeddings:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    print(server.listening_address, file=out, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
