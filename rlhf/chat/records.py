"""What passes between the rooms of the chat: how to reply, and what came of it."""

from dataclasses import dataclass
from typing import Literal

from rlhf.errors import UserError

FinishReason = Literal["stop", "length", "cancelled"]
"""The model ended its reply (or met a stop text); the reply is as long as it may be; somebody stopped it."""

MOST_TOKENS = 1 << 17
"""Of one reply, whatever the model's context."""


@dataclass(frozen=True)
class ReplySettings:
    """How one reply is sampled."""

    temperature: float = 0.7
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Sample from the likeliest tokens that together have this probability (Holtzman et al. 2020, arXiv 1904.09751)."""
    max_tokens: int | None = None
    """Tokens of the reply at most; None: data.max_response_tokens."""
    seed: int | None = None
    """Equal seeds give equal replies; None draws one, which the reply names."""
    stop: tuple[str, ...] = ()
    """Texts before which the reply ends."""


@dataclass(frozen=True)
class Reply:
    """A finished reply, or as much of it as there was when it was stopped."""

    text: str
    version: str
    finish_reason: FinishReason
    seed: int
    prompt_tokens: int
    completion_tokens: int
    """The end-of-sequence token included, where there is one."""
    dropped_turns: int = 0
    """Oldest turns that the model was not shown, because they did not fit into its context."""
    first_token_seconds: float = 0.0
    """From the request to the first token."""
    seconds: float = 0.0
    """From the request to the last token."""


def check_settings(settings: ReplySettings) -> None:
    """Refuse settings that no reply can be sampled with. Raises `UserError`."""
    wrong = {
        "temperature": not 0 <= settings.temperature <= 2,
        "top_p": not 0 < settings.top_p <= 1,
        "max_tokens": settings.max_tokens is not None and not 0 < settings.max_tokens <= MOST_TOKENS,
        "seed": settings.seed is not None and not 0 <= settings.seed < 1 << 63,
        "stop": any(not text for text in settings.stop),
    }
    for name, refused in wrong.items():
        if refused:
            raise UserError(f"Bad {name}.", expected=_RANGES[name], found=repr(getattr(settings, name)))


_RANGES = {
    "temperature": "0 to 2",
    "top_p": "above 0, at most 1",
    "max_tokens": f"1 to {MOST_TOKENS}",
    "seed": "a whole number from 0 to 2⁶³ - 1",
    "stop": "texts that are not empty",
}
