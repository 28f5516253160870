"""The command `test`: does the tokenizer give back what it is given, are its special tokens sound, how fast is it all.

for line in self_test(engine, "ppo"):
    print(line)
"""

from collections.abc import Iterator

from transformers import PreTrainedTokenizerFast

from rlhf.chat.engine import Engine
from rlhf.chat.records import ReplySettings
from rlhf.records import ask
from rlhf.tokenizer import ROLES, decode_reply, encode_prompt, encode_reply

TEXTS = (
    "The capital of France is Paris.",
    "  two spaces, a tab\t, a line feed\nand an end ",
    "def f(x):\n    return x ** 2  # 3.14",
    "Übergrößenträger, naïve, żółć, Ελλάδα, кошка",
    "東京は日本の首都です。",
    "🙂👩‍👩‍👧 𝒳",
    "<|endoftext|> <|user|> [PAD] </s>",
)
PROMPT = "What is the capital of France?"
TOKENS, REPLIES = 64, 8
"""Speed is taken over so many tokens, or replies where those are short."""


def self_test(engine: Engine, version: str) -> Iterator[str]:
    """Lines to print, as they become known."""
    yield from _round_trip(engine.tokenizer)
    yield from _special_tokens(engine.tokenizer)
    yield _speed(engine, version)


def _round_trip(tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    lost = [text for text in TEXTS if decode_reply(tokenizer, encode_reply(tokenizer, text, end=False)) != text]
    yield f"tokenizer: {_mark(not lost)} {len(TEXTS) - len(lost)} of {len(TEXTS)} texts come back as they were"
    for text in lost:
        yield f"  changed: {text!r} becomes {decode_reply(tokenizer, encode_reply(tokenizer, text, end=False))!r}"


def _special_tokens(tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    yield f"end of sequence: {_mark(eos is not None)} {tokenizer.eos_token} ({eos})"
    yield f"padding: {_mark(pad is not None and pad != eos)} {tokenizer.pad_token} ({pad}), not the end of sequence"
    special = {number for number in tokenizer.all_special_ids if number is not None}
    names = [*tokenizer.all_special_tokens, *(role for role in ROLES if role in tokenizer.get_added_vocab())]
    typed = [name for name in names if special & set(encode_reply(tokenizer, f"a {name} b", end=False))]
    yield f"typed names of special tokens: {_mark(not typed)} " + (
        f"taken for the tokens: {', '.join(typed)}" if typed else f"{len(set(names))} stay text"
    )
    prompt = encode_prompt(tokenizer, ask(PROMPT))
    shown = tokenizer.decode(prompt)
    yield f"chat template: {_mark(PROMPT in shown)} {len(prompt)} tokens for {PROMPT!r}"


def _speed(engine: Engine, version: str) -> str:
    tokens, seconds, first = 0, 0.0, []
    for seed in range(REPLIES):
        reply = engine.reply(ask(PROMPT), version, ReplySettings(temperature=1.0, seed=seed))
        tokens, seconds = tokens + reply.completion_tokens, seconds + reply.seconds
        first.append(reply.first_token_seconds)
        if tokens >= TOKENS:
            break
    middle = sorted(first)[len(first) // 2]
    return f"speed: {tokens / seconds:.0f} tokens/s, first token after {middle * 1000:.0f} ms ({tokens} tokens)"


def _mark(fine: bool) -> str:
    return "ok," if fine else "FAILED,"
