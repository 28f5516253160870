"""A model from Python: give it a folder, and talk to it.

    from rlhf.chat import ChatInterface

    chat = ChatInterface("models/tiny")                 # a run: its live version; or any result folder, adapter or not
    chat.generate_response("Hello")                     # one turn, nothing is remembered
    chat.chat("My name is Ann.")                        # a conversation …
    chat.chat("What is my name?")
    chat.history                                        # … so far
    chat.reset()

It is an engine like that of the server, without guardrails and without a store. Many threads may call
`generate_response` at a time, and are served in batches.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from transformers import AutoConfig

from rlhf.chat.engine import Engine
from rlhf.chat.inference.context import with_system
from rlhf.chat.records import Reply, ReplySettings
from rlhf.chat.terminal.dialogue import Dialogue
from rlhf.chat.terminal.transcript import Transcript
from rlhf.config import Config, Precision, load_config, parse_config
from rlhf.errors import UserError, nearest
from rlhf.models import base_of, is_adapter
from rlhf.records import Conversation, ask
from rlhf.registry import Registry

SHARE_OF_REPLY = 4
"""Where nothing says how long a reply may be, it gets one part of the context in so many."""
LONGEST_REPLY = 256
"""Tokens; at most, where nothing says."""


class ChatInterface:
    """See the module.

    Args:
        folder: a run (DIR), or one result in it (DIR/ppo), or any folder that holds a model or an adapter.
        version: of a run; default: the live one.
        precision: of the weights: "fp32", "bf16", "8bit" or "4bit"; default: as the run was configured.
        device: "auto", "cpu" or "cuda"; default: as the run was configured.
        settings: how replies are sampled; default: as the run was configured.

    Raises:
        UserError: no model there, no such version, or it cannot be loaded.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        version: str | None = None,
        precision: Precision | None = None,
        device: str | None = None,
        settings: ReplySettings | None = None,
    ) -> None:
        self.version, self.folder = _find(Path(folder).expanduser(), version)
        config = _config(self.folder, precision, device)
        chat = config.chat
        self.settings = settings or ReplySettings(temperature=chat.temperature, top_p=chat.top_p)
        self.engine = Engine.of(config, {self.version: self.folder})
        self._dialogue = Dialogue(self.engine, self.version, self.settings, system=chat.system)
        self._system = chat.system

    def generate_response(self, text: str | Conversation, **changes: Any) -> str:
        """The reply to a text, or to a conversation that ends with a user's turn.

        Args:
            text: what to reply to.
            changes: of the settings, for this reply: temperature, top_p, max_tokens, seed, stop.

        Raises:
            UserError: it is too long, or a setting is unknown or out of range.
            GenerationFailed: the model failed.
        """
        return self.reply(text, **changes).text

    def reply(self, text: str | Conversation, **changes: Any) -> Reply:
        """The same, with what there is to know about it: seed, finish reason, tokens, time."""
        messages = with_system(ask(text) if isinstance(text, str) else text, self._system)
        return self.engine.reply(messages, self.version, self._changed(changes))

    def stream(self, text: str | Conversation, **changes: Any) -> Iterator[str]:
        """The same, piece by piece as it comes; whoever stops reading stops the model."""
        messages = with_system(ask(text) if isinstance(text, str) else text, self._system)
        generation = self.engine.submit(messages, self.version, self._changed(changes))
        try:
            yield from generation
        finally:
            generation.cancel()

    def chat(self, text: str, **changes: Any) -> str:
        """The reply to the next message of a conversation, which is remembered. For one thread."""
        self._dialogue.settings = self._changed(changes)
        answer = self._dialogue.say(text)
        for _ in answer:
            pass
        assert answer.exchange is not None
        return answer.exchange.reply

    @property
    def history(self) -> Conversation:
        """The conversation so far, as the model is shown it."""
        transcript = self._dialogue.transcript
        return with_system(transcript.messages(), transcript.system)

    def reset(self) -> None:
        """Begin a new conversation."""
        self._dialogue.begin(Transcript(self._system))

    def close(self) -> None:
        """Stop, and let go of the memory."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _changed(self, changes: dict[str, Any]) -> ReplySettings:
        known = ReplySettings.__dataclass_fields__
        for name in changes:
            if name not in known:
                raise UserError(
                    f"There is no setting {name!r}.", expected=", ".join(known), remedy=nearest(name, known)
                )
        if "stop" in changes:
            stop = changes["stop"]
            changes = changes | {"stop": (stop,) if isinstance(stop, str) else tuple(stop)}
        return replace(self.settings, **changes)


def _find(folder: Path, version: str | None) -> tuple[str, Path]:
    """The name and folder of the version to load."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.", expected="a run, or the folder of a model",
                        remedy="train one: python main.py --phase all")  # fmt: skip
    if _is_result(folder):
        if version is not None:
            raise UserError(f"{folder} is one version, and has none called {version!r}.",
                            remedy=f"give the run's folder, perhaps {folder.parent}, or no version")  # fmt: skip
        return folder.name, folder
    registry = Registry(folder)
    found = registry.get(version) if version else registry.live()
    return found.name, registry.path(found)


def _is_result(folder: Path) -> bool:
    return is_adapter(folder) or (folder / "config.json").is_file()


def _config(folder: Path, precision: Precision | None, device: str | None) -> Config:
    """The configuration saved beside a model, else one that fits it."""
    saved = folder / "config.yaml"
    config = load_config(saved) if saved.is_file() else _plain_config(folder)
    values = config.model.model_dump() | {"device": device or config.model.device}
    if precision:  # a shape is only what a model was made from; the weights may be loaded in any precision
        values |= {"precision": precision, "shape": None, "name": values["name"] or str(folder)}
    return config.model_copy(update={"model": type(config.model).model_validate(values)})


def _plain_config(folder: Path) -> Config:
    """For a model that no phase of ours has left."""
    try:
        context = getattr(AutoConfig.from_pretrained(base_of(folder)), "max_position_embeddings", None) or 2048
    except (OSError, ValueError) as error:
        raise UserError(f"Could not load a model from {folder}.", found=str(error).splitlines()[0]) from None
    reply = min(LONGEST_REPLY, max(1, context // SHARE_OF_REPLY))
    sections = {
        "model": {"name": str(folder)},
        "data": {
            "demonstrations": ["classroom"], "preferences": ["made"],
            "max_prompt_tokens": context - reply, "max_response_tokens": reply,
        },
    }  # fmt: skip
    return parse_config(sections)
