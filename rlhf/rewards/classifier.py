"""Any sequence classifier as a reward, with the tokenizer that it was trained with.

    toxicity = Classifier("org/toxicity", label="clean", device=device)
    toxicity(prompts=["Hi"], completions=["Hello!"])

A tokenizer with a chat template gets the conversation; any other gets prompt and completion as a pair of texts.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlhf.errors import UserError, nearest
from rlhf.hub import loading, reachable_or_cached


class Classifier:
    """Log-probability of a label (of a single label: its logit), or its probability. Frozen.

    Args:
        path: hub name or local folder of model and tokenizer.
        label: name or number; needed where there are several.
        probability: 0 to 1, in place of its log or of the logit.
        max_tokens: longer texts lose their beginning; by default as many as the model takes.
        batch_size: texts at a time; a model without a pad token gets them one by one.
        device: where it computes.
        dtype: of its weights.

    Raises:
        UserError: no such model, or no such label.
    """

    def __init__(
        self,
        path: str,
        label: str | int | None = None,
        probability: bool = False,
        max_tokens: int | None = None,
        batch_size: int = 32,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        source = reachable_or_cached(path, "classifier")
        self.tokenizer, self.model = _load(source, path, dtype)
        self.model.to(device or torch.device("cpu")).eval().requires_grad_(False)
        self.label = _number_of(label, self.model.config, path)
        self.probability = probability
        self.tokenizer.truncation_side, self.tokenizer.padding_side = "left", "right"
        takes = min(self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", 1 << 30))
        self.max_tokens = min(max_tokens or takes, takes)
        self.pads = None not in (self.tokenizer.pad_token_id, self.model.config.pad_token_id)
        self.batch_size = batch_size if self.pads else 1

    def __call__(
        self,
        prompts: list[str],
        completions: list[str],
        messages: list[list[dict[str, str]]] | None = None,
        **columns: list[Any],
    ) -> list[float]:
        if not self.tokenizer.chat_template:
            return self._values(prompts, completions)
        asked = messages or [[{"role": "user", "content": prompt}] for prompt in prompts]
        replies = ({"role": "assistant", "content": completion} for completion in completions)
        return self._values([self._chat([*turns, reply]) for turns, reply in zip(asked, replies, strict=True)])

    def alone(self, texts: list[str]) -> list[float]:
        """The same for texts that reply to nothing; through a chat template they go as a user's turn."""
        if self.tokenizer.chat_template:
            texts = [self._chat([{"role": "user", "content": text}]) for text in texts]
        return self._values(texts)

    def _chat(self, turns: list[dict[str, str]]) -> str:
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False))

    @torch.no_grad()
    def _values(self, first: list[str], second: list[str] | None = None) -> list[float]:
        """Of texts, or of pairs of texts."""
        options: dict[str, Any] = {"truncation": True, "max_length": self.max_tokens, "padding": self.pads}
        options["add_special_tokens"] = not self.tokenizer.chat_template  # a template writes them itself
        found: list[float] = []
        for start in range(0, len(first), self.batch_size):
            rows = slice(start, start + self.batch_size)
            inputs = self.tokenizer(first[rows], second and second[rows], return_tensors="pt", **options)
            found += self._value(self.model(**inputs.to(self.model.device)).logits.float()).tolist()
        return found

    def _value(self, logits: Tensor) -> Tensor:
        """(N,) from logits (N, labels)."""
        if logits.shape[1] == 1:
            return logits[:, 0].sigmoid() if self.probability else logits[:, 0]
        if self.model.config.problem_type == "multi_label_classification":
            logs = F.logsigmoid(logits[:, self.label])
        else:
            logs = F.log_softmax(logits, dim=1)[:, self.label]
        return logs.exp() if self.probability else logs


def _load(source: str, path: str, dtype: torch.dtype) -> tuple[Any, Any]:
    expected = "a hub name, or a folder with config.json, model.safetensors and the tokenizer's files"
    with loading("classifier", path, expected):
        tokenizer = AutoTokenizer.from_pretrained(source)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            source, dtype=dtype, output_loading_info=True
        )
    if report["missing_keys"]:
        raise UserError(
            f"{path} holds no trained classifier.",
            expected="a model for sequence classification, its head included",
            found=f"no weights for {', '.join(sorted(report['missing_keys'])[:5])}",
        )
    return tokenizer, model


def _number_of(label: str | int | None, config: Any, path: str) -> int:
    """The column of a label. Raises `UserError` where it is not given but needed, or unknown."""
    names = {int(number): str(name) for number, name in config.id2label.items()}
    if label is None and len(names) == 1:
        return 0
    found = [number for number, name in names.items() if label in (number, name)]
    if len(found) != 1:
        raise UserError(
            f"The classifier {path} needs label: one of its {len(names)} labels.",
            expected=", ".join(names.values()),
            found=str(label or "none"),
            remedy=nearest(str(label), names.values()) if label else "name the label whose probability is the reward",
        )
    return found[0]
