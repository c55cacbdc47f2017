"""Writes a GGUF that calls a tool, for llama.cpp's server: no model that could be shipped here has learnt to.

Its one layer adds nothing, so each token alone decides the next: a chain that is written into the output matrix. After
a prompt with tools it calls `weather`, after one without it tells the beginning of a story. Templates, grammars, parsers
and everything else between the request and the answer are llama.cpp's own.

Usage: tool_model.py FILE.gguf. Needs the PyPI package gguf.
"""

import sys

import gguf
import numpy

TEMPLATE = """{%- if tools %}<|im_start|>system
Tools:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
Call one as <tool_call>
{"name": NAME, "arguments": OBJECT}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if tools and messages[-1].role != "tool" %}<use>{% endif %}{% endif %}"""

CALL = ["<use>", "<tool_call>", '\n{"name": "weather", ', '"arguments": {"city": ', '"Oslo"}}\n', "</tool_call>"]
STORY = ["\n", "Once", " upon", " a", " time,", " a fox", " lived", " in", " a wood", ". ", "She", " slept", " all day,", " and"]
STORY += [" at", " night", " she", " went", " out", " to", " look", " for", " the moon", " between", " the trees", ".\n\n"]
END = "<|im_end|>"
CONTROL = ["<|endoftext|>", "<|im_start|>", END]
# A context that holds any prompt of the clients' checks, for each of four slots.
CONTEXT = 16384
# Far above what any temperature or other token makes up for.
CERTAIN = 40.0


def byte_letters() -> list[str]:
    """The letters that stand for bytes in GPT-2's vocabulary, by byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def main() -> None:
    letters = byte_letters()
    newline = letters[ord("\n")]
    words = [*CALL, *(word for word in STORY if word != "\n")]
    tokens = [*letters, *words, *CONTROL]
    kinds = [gguf.TokenType.NORMAL] * len(letters) + [gguf.TokenType.USER_DEFINED] * len(words)
    kinds += [gguf.TokenType.CONTROL] * len(CONTROL)
    # Rows of tensors come in blocks of 32.
    width = (len(tokens) + 31) // 32 * 32
    while len(tokens) < width:
        tokens.append(f"<unused{len(tokens)}>")
        kinds.append(gguf.TokenType.UNUSED)
    place = {token: index for index, token in enumerate(tokens)}
    follows = numpy.zeros((width, width), dtype=numpy.float32)
    for chain in ([*CALL, END], [newline, *STORY[1:], END]):
        for token, then in zip(chain, chain[1:]):
            follows[place[then], place[token]] = CERTAIN / width**0.5

    writer = gguf.GGUFWriter(sys.argv[1], "llama")
    writer.add_name("tool-caller")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(width)
    writer.add_vocab_size(width)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(place["<|endoftext|>"])
    writer.add_eos_token_id(place[END])
    writer.add_eot_token_id(place[END])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    zeros = lambda *shape: numpy.zeros(shape, dtype=numpy.float32)
    ones = numpy.ones(width, dtype=numpy.float32)
    writer.add_tensor("token_embd.weight", numpy.eye(width, dtype=numpy.float32))
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", follows)
    writer.add_tensor("blk.0.attn_norm.weight", ones)
    writer.add_tensor("blk.0.ffn_norm.weight", ones)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", zeros(width, width))
    for name, shape in (("ffn_gate", (32, width)), ("ffn_up", (32, width)), ("ffn_down", (width, 32))):
        writer.add_tensor(f"blk.0.{name}.weight", zeros(*shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
