"""Serves one GGUF with llama.cpp's own OpenAI server on a free port of the loopback.

Usage: llamacpp_server.py MODEL.gguf [SLOTS]. Prints the server's address as its first line on stdout and serves until
stdin is closed. Needs the PyPI package xllamacpp.
"""

import os
import sys

import xllamacpp


def main() -> None:
    # llama.cpp logs to stdout: the address goes to the real one, its log to stderr.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    slots = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = 256 * slots
    params.n_parallel = slots
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.endpoint_slots = True
    params.endpoint_props = True
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, file=out, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
