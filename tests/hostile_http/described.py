"""Schemathesis against a gateway: requests that its own description allows, and requests that it does not.

INFERNET_GATEWAY names the gateway, INFERNET_MODEL a model that it serves and INFERNET_PROVIDER its provider: made-up names
would be refused before anything else of a request is looked at. What is answered has to be what the description says.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

GATEWAY = os.environ["INFERNET_GATEWAY"].rstrip("/")
MODEL = os.environ["INFERNET_MODEL"]
PROVIDER = os.environ["INFERNET_PROVIDER"]
HERE = Path(__file__).parent
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
]
# So many of each operation and phase that it ends within a minute.
EXAMPLES = 40


def described(folder: Path) -> Path:
    """The gateway's description, narrowed to names that there are."""
    with urllib.request.urlopen(f"{GATEWAY}/openapi.json", timeout=20) as answer:
        document = json.load(answer)
    schemas = document["components"]["schemas"]
    schemas["Model"] = {"type": "string", "enum": [MODEL]}
    schemas["Provider"] = {"type": "string", "enum": [PROVIDER]}
    path = folder / "openapi.json"
    path.write_text(json.dumps(document))
    return path


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            f"--config-file={HERE / 'schemathesis.toml'}",
            "run",
            str(described(Path(folder))),
            f"--url={GATEWAY}",
            f"--checks={','.join(CHECKS)}",
            f"--max-examples={EXAMPLES}",
            # The same requests in each run.
            "--generation-deterministic",
            # More than one gains nothing in Python, and its parser has been seen to fail in threads.
            "--workers=1",
            *sys.argv[1:],
        ]
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
