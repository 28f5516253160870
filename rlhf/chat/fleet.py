"""Several versions of a model at hand; those that are adapters on the same base share its weights.

fleet = Fleet(tokenizer, "fp32", torch.device("cpu"))
fleet.add("sft", Path("models/tiny/sft"))
fleet.add("ppo", Path("models/tiny/ppo"))     # an adapter on models/tiny/sft: no second copy of it
with fleet.role("ppo") as model: …
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from rlhf.config import Precision
from rlhf.errors import UserError, nearest
from rlhf.fused import fuse_kernels
from rlhf.logprobs import causal_lm
from rlhf.models import base_of, is_adapter, load_base


class UnknownVersion(UserError):
    """No such version is loaded."""


@dataclass
class _Base:
    """Base weights, and the versions on them."""

    model: Any
    adapters: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    """Versions that are the base itself."""
    active: str | None = None

    def switch_to(self, adapter: str | None) -> None:
        """Put an adapter on the weights, or none; costs nothing where it is on them already."""
        if adapter == self.active:
            return
        if adapter is None:
            self.model.base_model.disable_adapter_layers()
        else:
            if self.active is None:
                self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(adapter, inference_mode=True)
        self.active = adapter


class _Place(NamedTuple):
    base: str
    adapter: str | None


class Fleet:
    """The versions that are loaded. Not safe for several threads: one owns it.

    Args:
        tokenizer: of all versions.
        precision: of the base weights.
        device: where they go.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, precision: Precision, device: torch.device) -> None:
        self.tokenizer, self.precision, self.device = tokenizer, precision, device
        self._bases: dict[str, _Base] = {}
        self._places: dict[str, _Place] = {}
        self._added = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The versions, in the order in which they were added."""
        return tuple(self._places)

    def copies(self) -> int:
        """How many copies of base weights there are."""
        return len(self._bases)

    def add(self, name: str, folder: str | Path) -> None:
        """Load a version from a hub name or result folder; one of that name is replaced once the new one stands.

        Raises:
            UserError: nothing to load there, or it has another vocabulary than the tokenizer.
        """
        key = _identity(base_of(folder))
        fresh = key not in self._bases
        base = self._bases.get(key) or _Base(load_base(base_of(folder), self.tokenizer, self.precision, self.device))
        adapter = self._add_adapter(base, str(folder)) if is_adapter(folder) else None
        if fresh:
            fuse_kernels(base.model)
            base.model.eval().requires_grad_(False)
        self.remove(name)
        self._bases[key] = base
        self._places[name] = _Place(key, adapter)
        (base.whole if adapter is None else base.adapters).add(adapter or name)

    def _add_adapter(self, base: _Base, folder: str) -> str:
        self._added += 1
        adapter = f"version{self._added}"  # peft takes no dots in a name
        try:
            if isinstance(base.model, PeftModel):
                base.model.load_adapter(folder, adapter_name=adapter, is_trainable=False)
            else:
                base.model = PeftModel.from_pretrained(base.model, folder, adapter_name=adapter)
                base.model.base_model.disable_adapter_layers()
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"Could not load the adapter in {folder}.", found=str(error).splitlines()[0]) from error
        fuse_kernels(base.model)
        base.model.eval().requires_grad_(False)
        return adapter

    def remove(self, name: str) -> None:
        """Drop a version, if it is there; its base goes with the last version on it."""
        place = self._places.pop(name, None)
        if place is None:
            return
        base = self._bases[place.base]
        if place.adapter is None:
            base.whole.discard(name)
        else:
            base.switch_to(None)
            base.adapters.discard(place.adapter)
            if base.adapters:  # peft keeps at least one
                base.model.delete_adapter(place.adapter)
        if not base.whole and not base.adapters:
            del self._bases[place.base]
        elif not base.adapters and isinstance(base.model, PeftModel):
            base.model = base.model.unload()

    @contextmanager
    def role(self, name: str) -> Iterator[Any]:
        """The network as that version. Raises `UnknownVersion`."""
        place = self.place(name)
        base = self._bases[place.base]
        base.switch_to(place.adapter)
        yield base.model

    def place(self, name: str) -> _Place:
        """Where a version is. Raises `UnknownVersion`."""
        if name not in self._places:
            raise UnknownVersion(f"No version {name!r} is loaded.", remedy=nearest(name, self._places))
        return self._places[name]

    def context(self, name: str) -> int | None:
        """Tokens that a version can take, prompt and reply together; None where there is no limit."""
        config = causal_lm(self._bases[self.place(name).base].model).config.get_text_config()
        return getattr(config, "max_position_embeddings", None)


def _identity(base: str) -> str:
    """The same for every way to write the path of one folder."""
    return str(Path(base).resolve()) if Path(base).exists() else base
