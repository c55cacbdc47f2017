"""An engine with vLLM's wire shapes and no model: what it says is fixed, and it calls every tool that it is given.

It stands in where no engine that runs here can: the demo model knows no tools. Shapes:
https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html and .../features/tool_calling.html.
Usage: shaped_engine.py. Prints its address as its first line on stdout and serves until stdin is closed.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["Once", " upon", " a", " time", " there", " was", " a", " fox", "."] * 4
ARGUMENTS = ['{"ci', 'ty": ', '"Oslo"}']
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "shaped"}


def wants_tool(asked: dict) -> bool:
    return bool(asked.get("tools")) and asked.get("tool_choice") != "none" and asked["messages"][-1]["role"] == "user"


def answer(asked: dict) -> tuple[list[dict], str, int]:
    """Deltas, the reason to finish, and output tokens."""
    if wants_tool(asked):
        function = {"name": asked["tools"][0]["function"]["name"], "arguments": ""}
        call = {"index": 0, "id": "call_abc123", "type": "function", "function": function}
        pieces = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in ARGUMENTS]
        return [{"tool_calls": [call]}, *pieces], "tool_calls", 12
    if "response_format" in asked:
        return [{"content": '{"city": "Oslo"}'}], "stop", 6
    most = asked.get("max_completion_tokens") or asked.get("max_tokens") or len(WORDS)
    return [{"content": word} for word in WORDS[:most]], "length" if most < len(WORDS) else "stop", min(most, len(WORDS))


class Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            model = {"id": "shaped", "object": "model", "created": 1, "owned_by": "vllm", "max_model_len": 4096}
            self.reply(200, {"object": "list", "data": [model]})
        else:
            self.reply(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        usage = {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}
        if self.path == "/v1/embeddings":
            error = {"object": "error", "message": "The model does not support Embeddings API", "code": 400}
            self.reply(400, {"error": error})
            return
        if self.path == "/v1/completions":
            text = "".join(WORDS[: asked.get("max_tokens", 16)])
            choice = {"index": 0, "text": text, "finish_reason": "length"}
            usage = {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}
            body = {**HEAD, "object": "text_completion", "choices": [choice]}
            if asked.get("stream"):
                self.stream([body, {**body, "choices": [], "usage": usage}])
            else:
                self.reply(200, {**body, "usage": usage})
            return
        deltas, reason, tokens = answer(asked)
        usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": None}
            text = "".join(delta.get("content", "") for delta in deltas)
            if reason == "tool_calls":
                call = {**deltas[0]["tool_calls"][0]}
                call["function"] = {**call["function"], "arguments": "".join(ARGUMENTS)}
                call.pop("index")
                message["tool_calls"] = [call]
            else:
                message["content"] = text
            choice = {"index": 0, "message": message, "finish_reason": reason}
            self.reply(200, {**HEAD, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        head = {**HEAD, "object": "chat.completion.chunk"}
        chunks = [{"role": "assistant", "content": ""}, *deltas]
        told = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in chunks]
        told.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        told.append({**head, "choices": [], "usage": usage})
        self.stream(told)

    def stream(self, chunks: list[dict]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("connection", "close")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
