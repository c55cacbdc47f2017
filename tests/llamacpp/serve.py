#!/usr/bin/env python3
"""Runs llama.cpp's own server with one model on a free port of localhost.

Prints its address on the first line, and stops when it is told to or its standard input ends.

    python tests/llamacpp/serve.py MODEL.gguf
"""

import sys

import xllamacpp


def main():
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = 2048
    params.n_parallel = 4
    params.cpuparams.n_threads = 2
    params.cpuparams_batch.n_threads = 2
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.endpoint_slots = True
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
