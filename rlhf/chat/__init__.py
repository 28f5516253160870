"""Talking to a model, and what people make of its replies: in the terminal, in the browser and over HTTP.

from rlhf.chat import ChatInterface
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlhf.chat.interface import ChatInterface

__all__ = ["ChatInterface"]


def __getattr__(name: str) -> Any:
    """Only whoever asks for it waits for torch; the configuration imports this package, too."""
    if name == "ChatInterface":
        from rlhf.chat.interface import ChatInterface

        return ChatInterface
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
