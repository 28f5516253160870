"""The row formats that a JSON-lines file may have: which keys tell them, and how a row becomes records.

{"prompt": "2+2?", "completion": "4"}                                     demonstration (TRL; strings or messages)
{"prompt": "2+2?", "completion": "5", "label": false}                     liked or not (TRL; strings or messages)
{"prompt": "2+2?", "chosen": "4", "rejected": "5"}                        pair (TRL; strings or messages)
{"chosen": [messages], "rejected": [messages]}                            pair whose sides share the prompt (TRL)
{"prompt": "2+2?"}                                                        prompt (TRL; string or messages)
{"messages": [{"role": "user", "content": "2+2?"}, …], "quality": 0.9}    chat; roles and quality may be missing
{"text": "User: 2+2?\\nAssistant: 4", "quality": 0.9}                      chat in one string, or plain text
{"instruction": "Rewrite it.", "instances": [{"input": …, "output": …}]}  prompts (self-instruct)
{"turns": ["How can I sleep better?"], "category": "generic"}             prompt (Vicuna bench; first turn)
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rlhf.data.layout import with_context
from rlhf.data.rows import Row, shorten
from rlhf.errors import UserError
from rlhf.records import Conversation, Demonstration, Message, Preference, Prompt, ask, prompt_id


@dataclass(frozen=True)
class Disliked(Demonstration):
    """A reply with a thumb down: nobody should learn to write it."""


Record = Demonstration | Preference | Prompt | str
"""What a row holds; a string is plain text without a question."""

_ROLES = ("system", "user", "assistant")
_END = "<|endoftext|>"
_SPEAKER = re.compile(r"(?:^|\n)\s*(User|Human|Assistant|Bot|AI):|###\s*(User|Human|Assistant):")


class Format(NamedTuple):
    """One row format."""

    name: str
    keys: frozenset[str]
    """A row with all of these keys has this format; the first that fits is taken."""
    read: Callable[[Row, str], list[Record]]
    """(row, name of the source) → its records. Raises `UserError` that names the row."""


def recognise(row: Row) -> Format:
    """The format of a file, by its first row. Raises `UserError` that lists the known ones."""
    for candidate in FORMATS:
        if candidate.keys <= row.values.keys():
            return candidate
    known = "; ".join(f"{f.name} ({', '.join(sorted(f.keys))})" for f in FORMATS)
    raise UserError(f"{row.where}: unknown row format.", expected=known, found=row.keys(),
                    remedy="rename the keys to those of one of these formats")  # fmt: skip


def _completion_row(row: Row, source: str) -> list[Record]:
    prompt = _conversation(row, "prompt")
    return [Demonstration(prompt_id(prompt), prompt, _reply(row, "completion"), _category(row), source, _quality(row))]


def _unpaired_row(row: Row, source: str) -> list[Record]:
    label, prompt = row.values["label"], _conversation(row, "prompt")
    if not isinstance(label, bool):
        raise UserError(
            f"{row.where}: bad 'label'.",
            expected="true or false: whether the completion was liked",
            found=shorten(label),
            remedy="give another name to a label that means something else",
        )
    kind = Demonstration if label else Disliked
    reply = _reply(row, "completion")
    return [kind(prompt_id(prompt), prompt, reply, _category(row), source, float(label))]


def _t0_row(row: Row, source: str) -> list[Record]:
    """Plain text: templated tasks of old benchmarks, some with an empty answer, show no one how to reply."""
    return ["\n".join([row.text("prompt"), row.text("completion").removesuffix(_END)]).strip()]


def _pair_row(row: Row, source: str) -> list[Record]:
    return [_pair(row, source, _conversation(row, "prompt"), _reply(row, "chosen"), _reply(row, "rejected"))]


def _implicit_pair_row(row: Row, source: str) -> list[Record]:
    chosen, rejected = _conversation(row, "chosen"), _conversation(row, "rejected")
    if chosen[:-1] != rejected[:-1] or not {chosen[-1].role, rejected[-1].role} == {"assistant"} or len(chosen) < 2:
        raise UserError(
            f"{row.where}: 'chosen' and 'rejected' are not two replies to one conversation.",
            expected="the same messages but for the last, which is the assistant's",
            found=f"{shorten(chosen)} and {shorten(rejected)}",
        )
    return [_pair(row, source, chosen[:-1], chosen[-1].content, rejected[-1].content)]


def _pair(row: Row, source: str, prompt: Conversation, chosen: str, rejected: str) -> Preference:
    if chosen == rejected:
        raise UserError(
            f"{row.where}: 'chosen' and 'rejected' are equal.", expected="two different replies",
            found=shorten(chosen), remedy="remove the row: it prefers nothing",
        )  # fmt: skip
    margin = row.values.get("margin")
    if margin is not None and not isinstance(margin, int | float):
        raise UserError(f"{row.where}: bad 'margin'.", expected="a number", found=shorten(margin))
    kind = row.text("kind") if "kind" in row.values else "human"
    return Preference(prompt_id(prompt), prompt, chosen, rejected, source, kind, _category(row), margin)


def _prompt_row(row: Row, source: str) -> list[Record]:
    return [_prompt(_conversation(row, "prompt"), source, _category(row))]


def _prompt(conversation: Conversation, source: str, category: str, reference: str | None = None) -> Prompt:
    identity = prompt_id(conversation)
    return Prompt(identity, conversation, category, source, reference=reference, origin=identity)


def _messages_row(row: Row, source: str) -> list[Record]:
    return [_chat(row, source, _conversation(row, "messages"))]


def _text_row(row: Row, source: str) -> list[Record]:
    """A transcript where speakers are marked (`User:`, `### Human:` …); otherwise plain text."""
    text = row.text("text")
    parts = [part for part in _SPEAKER.split(text) if part is not None]
    if len(parts) < 5 or parts[0].strip():
        _quality(row)
        return [text]
    speakers = ["user" if who in ("User", "Human") else "assistant" for who in parts[1::2]]
    turns = [_message(row, {"role": who, "content": said}) for who, said in zip(speakers, parts[2::2], strict=True)]
    return [_chat(row, source, tuple(turns))]


def _chat(row: Row, source: str, turns: Conversation) -> Demonstration:
    if len(turns) < 2 or turns[-1].role != "assistant" or turns[-2].role != "user":
        raise UserError(
            f"{row.where}: the chat does not end with a reply.",
            expected="a user's turn and then the assistant's, at the end",
            found=f"{len(turns)} turns: {', '.join(turn.role for turn in turns[-3:])}",
        )
    prompt = turns[:-1]
    return Demonstration(prompt_id(prompt), prompt, turns[-1].content, _category(row), source, _quality(row))


def _self_instruct_row(row: Row, source: str) -> list[Record]:
    found: list[Record] = []
    for instance in _items(row, "instances"):
        part = Row(row.where, instance if isinstance(instance, dict) else {})
        conversation = ask(with_context(row.text("instruction"), part.text("input", empty=True)))
        found.append(_prompt(conversation, source, "", part.text("output")))
    return found


def _turns_row(row: Row, source: str) -> list[Record]:
    first = Row(row.where, {"turns": _items(row, "turns")[0]})
    return [_prompt(ask(first.text("turns")), source, _category(row))]


def _conversation(row: Row, key: str) -> Conversation:
    """A prompt given as a string, or messages; where roles are missing, user and assistant take turns."""
    if isinstance(row.values.get(key), str):
        return ask(row.text(key))
    turns = []
    for index, item in enumerate(_items(row, key)):
        filled = {"role": ("user", "assistant")[index % 2], **item} if isinstance(item, dict) else item
        turns.append(_message(row, filled))
    return tuple(turns)


def _reply(row: Row, key: str) -> str:
    """A reply given as a string, or as a list of one assistant's message."""
    if isinstance(row.values.get(key), list):
        messages = [_message(row, item) for item in _items(row, key)]
        if len(messages) != 1 or messages[0].role != "assistant":
            raise UserError(f"{row.where}: bad {key!r}.", expected="one assistant's message", found=shorten(messages))
        return messages[0].content
    reply = row.text(key).removesuffix(_END).rstrip()  # some publishers leave the end mark in
    return reply or Row(row.where, {key: ""}).text(key)


def _items(row: Row, key: str) -> list[Any]:
    value = row.values.get(key)
    if not isinstance(value, list) or not value:
        found = row.keys() if key not in row.values else shorten(value)
        raise UserError(f"{row.where}: bad {key!r}.", expected="a list that is not empty", found=found)
    return value


def _message(row: Row, item: Any) -> Message:
    if not isinstance(item, dict) or item.get("role") not in _ROLES or not isinstance(item.get("content"), str):
        raise UserError(
            f"{row.where}: bad message.",
            expected=f"{{'role': one of {', '.join(_ROLES)}, 'content': text}}",
            found=shorten(item),
        )
    if not item["content"].strip():
        raise UserError(f"{row.where}: a message is empty.", expected="text", remedy="fill it in or remove the row")
    return Message(item["role"], item["content"].strip())


def _category(row: Row) -> str:
    return row.text("category", empty=True) if row.values.get("category") is not None else ""


def _quality(row: Row) -> float | None:
    value = row.values.get("quality")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{row.where}: bad 'quality'.", expected="a number from 0 to 1", found=shorten(value))
    return float(value)


FORMATS = (
    Format("pair", frozenset({"prompt", "chosen", "rejected"}), _pair_row),
    Format("pair with its prompt in both sides", frozenset({"chosen", "rejected"}), _implicit_pair_row),
    Format("plain text (T0)", frozenset({"template", "prompt", "completion"}), _t0_row),
    Format("liked or not", frozenset({"prompt", "completion", "label"}), _unpaired_row),
    Format("demonstration", frozenset({"prompt", "completion"}), _completion_row),
    Format("prompt", frozenset({"prompt"}), _prompt_row),
    Format("chat", frozenset({"messages"}), _messages_row),
    Format("self-instruct prompts", frozenset({"instruction", "instances"}), _self_instruct_row),
    Format("Vicuna bench prompt", frozenset({"turns"}), _turns_row),
    Format("chat in one string, or plain text", frozenset({"text"}), _text_row),
)
