"""What the clients' checks share: counting, and what the model behind the gateway can do.

INFERNET_GATEWAY names the gateway (http://127.0.0.1:46338); INFERNET_MODEL a model that it serves, else the first of its
list is taken; INFERNET_EMBEDDER a model for embeddings beside it; INFERNET_FEATURES what that model can do beyond chat, by commas (tools, json_schema, embeddings): what is
named has to work, and what is not has to be refused in clear words.
"""

import os
import sys
from collections.abc import Callable

GATEWAY = os.environ["INFERNET_GATEWAY"].rstrip("/")
MODEL = os.environ.get("INFERNET_MODEL")
EMBEDDER = os.environ.get("INFERNET_EMBEDDER")
FEATURES = set(filter(None, os.environ.get("INFERNET_FEATURES", "").split(",")))
QUESTION = "Tell me a story about a fox."
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}

count = 0


def check(holds: bool, what: str) -> None:
    global count
    count += 1
    if not holds:
        print(f"not so: {what}")
        sys.exit(1)
    print(f"ok: {what}")


def raises(kind: type[Exception], what: str, act: Callable[[], object]) -> Exception:
    try:
        act()
    except kind as error:
        check(True, what)
        return error
    check(False, what)
    raise AssertionError


def done() -> None:
    print(f"{count} checks hold")
