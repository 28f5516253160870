"""Several versions of a model at hand; those that are adapters on the same base share its weights.

fleet = Fleet(tokenizer, "fp32", torch.device("cpu"))
fleet.add("sft", Path("models/tiny/sft"))
fleet.add("ppo", Path("models/tiny/ppo"))     # an adapter on models/tiny/sft: no second copy of it
with fleet.role("ppo") as model: …
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel
from peft.utils import load_peft_weights
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast

from rlhf.config import Precision
from rlhf.errors import UserError, nearest
from rlhf.fused import fuse_kernels
from rlhf.logprobs import causal_lm
from rlhf.models import base_of, is_adapter, load_base


class UnknownVersion(UserError):
    """No such version is loaded."""


@dataclass
class BaseWeights:
    """Base weights, and the adapter that is on them at present."""

    model: Any
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
        self._bases: dict[str, BaseWeights] = {}
        self._places: dict[str, _Place] = {}
        self._added = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The versions, in the order in which they were added."""
        return tuple(self._places)

    def copies(self) -> int:
        """How many copies of base weights there are."""
        return len(self._bases)

    def read_base(self, folder: str | Path) -> BaseWeights | None:
        """The base weights that `add` will need and that are not there yet; may be called on any thread.

        Raises:
            UserError: nothing to load there.
        """
        if _identity(base_of(folder)) in self._bases:
            return None
        return BaseWeights(self._read(base_of(folder)))

    def _read(self, name: str) -> Any:
        model: Any = load_base(name, self.tokenizer, self.precision, self.device)
        fuse_kernels(model)
        return model.eval().requires_grad_(False)

    def add(self, name: str, folder: str | Path, base: BaseWeights | None = None) -> None:
        """Load a version from a hub name or result folder; one of that name is replaced once the new one stands.

        Args:
            name: of the version.
            folder: where it is.
            base: what `read_base` has given for that folder.

        Raises:
            UserError: nothing to load there, or it has another vocabulary than the tokenizer.
        """
        key = _identity(base_of(folder))
        weights = self._bases.get(key) or base or self.read_base(folder)
        assert weights is not None
        adapter = self._add_adapter(weights, str(folder)) if is_adapter(folder) else None
        before = self._places.get(name)
        self._bases[key] = weights
        self._places[name] = _Place(key, adapter)
        if before and before != self._places[name]:
            self._release(before)

    def _add_adapter(self, base: BaseWeights, folder: str) -> str:
        self._added += 1
        adapter = f"version{self._added}"  # peft takes no dots in a name
        try:
            LoraConfig.from_pretrained(folder)
            load_peft_weights(folder, device="cpu")  # before the base is touched
            if isinstance(base.model, PeftModel):
                base.model.load_adapter(folder, adapter_name=adapter, is_trainable=False)
            else:
                base.model = PeftModel.from_pretrained(base.model, folder, adapter_name=adapter)
                base.model.base_model.disable_adapter_layers()
        except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
            if not isinstance(base.model, PeftModel):
                base.model = self._read(base_of(folder))  # peft may have left layers in it
            elif adapter in base.model.peft_config:
                base.model.delete_adapter(adapter)
            raise UserError(f"Could not load the adapter in {folder}.", found=str(error).splitlines()[0]) from error
        fuse_kernels(base.model)
        base.model.eval().requires_grad_(False)
        return adapter

    def remove(self, name: str) -> None:
        """Drop a version, if it is there; its base goes with the last version on it."""
        place = self._places.pop(name, None)
        if place:
            self._release(place)

    def _release(self, place: _Place) -> None:
        """Free what a version had to itself that is at this place no longer."""
        base = self._bases[place.base]
        others = [other for other in self._places.values() if other.base == place.base]
        if not others:
            del self._bases[place.base]
        elif place.adapter is not None:
            base.switch_to(None)
            if any(other.adapter for other in others):
                base.model.delete_adapter(place.adapter)
            else:  # peft keeps at least one
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
    """The same for every way to write the path of one folder, and another once other weights lie in it."""
    folder = Path(base)
    if not folder.exists():
        return base
    written = max((file.stat().st_mtime_ns for file in folder.glob("*.safetensors")), default=0)
    return f"{folder.resolve()} {written}"
