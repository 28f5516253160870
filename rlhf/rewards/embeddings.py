"""Rewards from sentence embeddings, which are those of the package sentence-transformers (an optional extra).

embed = Embedder("sentence-transformers/all-MiniLM-L6-v2", device)     # or a local folder
Relevance(embed)(prompts=["Where is Rome?"], completions=["In Italy."])
"""

import importlib.util
from typing import Any

import torch
from torch import Tensor

from rlhf.errors import UserError
from rlhf.evaluation.text import words
from rlhf.hub import loading, reachable_or_cached
from rlhf.rewards.text import Embed


def require_library() -> None:
    """Refuse to go on without sentence-transformers. Raises `UserError` with the command that installs it."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise UserError(
            "This reward needs the package sentence-transformers.",
            remedy="pip install -r requirements-embeddings.txt",
        )


class Embedder:
    """Sentence embeddings of length 1 by a sentence-transformers model, which is kept frozen.

    Args:
        path: hub name or local folder; a folder never asks the hub.
        device: where it computes.

    Raises:
        UserError: the package is missing, or there is no such model.
    """

    def __init__(self, path: str, device: torch.device) -> None:
        require_library()
        source = reachable_or_cached(path, "embedder")
        from sentence_transformers import SentenceTransformer  # takes seconds

        with loading("sentence-transformers model", path, "a hub name, or a folder with modules.json"):
            self.model = SentenceTransformer(source, device=str(device)).eval().requires_grad_(False)

    def __call__(self, texts: list[str]) -> Tensor:
        """(N, D) fp32 on the CPU, rows of length 1. Texts longer than the model takes lose their end."""
        vectors: Any = self.model.encode(
            texts, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
        )
        return vectors.float().cpu()


class Relevance:
    """Cosine of the embeddings of what was asked and of the reply, -1 to 1; 0 for a reply without a word.

    Of a conversation, what was asked is its last message (from the column `messages`, where there is one).
    """

    def __init__(self, embed: Embed) -> None:
        self.embed = embed

    def __call__(
        self,
        prompts: list[str],
        completions: list[str],
        messages: list[list[dict[str, str]]] | None = None,
        **columns: list[Any],
    ) -> list[float]:
        asked = [turns[-1]["content"] for turns in messages] if messages else prompts
        cosines = (self.embed(asked) * self.embed(completions)).sum(1).tolist()
        return [c if words(completion) else 0.0 for c, completion in zip(cosines, completions, strict=True)]
