"""One copy of the base weights, several roles on it: policy, reference, reward model and, if wanted, critic.

    with backbone.role("reference"):
        ref_logprobs = ...

With LoRA a role is an adapter on the shared weights (the reference of a policy that started from a whole model: no
adapter). The idea of sharing is that of Hydra-RLHF (Santacroce et al. 2023, arXiv 2309.00754). Without LoRA the
reference is a frozen copy. A reward model that is not an adapter on the same base stays a network of its own.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import load_peft_weights, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlhf.config import Config
from rlhf.fused import fuse_kernels
from rlhf.logprobs import causal_lm
from rlhf.models import REWARD_HEAD, base_of, is_adapter, load_base, lora_config, trainable_model

Role = Literal["policy", "reference", "reward", "value"]
POLICY = "default"
"""peft's name for the policy's adapter: the one that it saves at the root of a folder."""


class Backbone:
    """The policy to train, the reference it is held to (both start as `start`), and adapters of other roles.

    Args:
        start: hub name or result folder of the model to start from, an adapter or whole.
        config: says precision, and whether PPO trains a LoRA adapter ("ppo" in lora.phases) or every weight.
        tokenizer: of the model.
        device: where the weights go.
    """

    def __init__(
        self, start: str | Path, config: Config, tokenizer: PreTrainedTokenizerFast, device: torch.device
    ) -> None:
        start = str(start)
        self.policy: Any
        self.reference: Any = None
        self.device = device
        self._adapters: dict[Role, str | None] = {"policy": POLICY, "reference": None}
        self._base = base_of(start)
        if "ppo" not in config.lora.phases:
            self.policy = trainable_model(start, config, "ppo", tokenizer, device)
            self.reference = copy.deepcopy(self.policy).requires_grad_(False).eval()
            return
        base = load_base(self._base, tokenizer, config.model.precision, device)
        fuse_kernels(base)
        if is_adapter(start):
            self.policy = PeftModel.from_pretrained(base, start, adapter_name=POLICY, is_trainable=True)
            self.policy.load_adapter(start, adapter_name="reference", is_trainable=False)
            self._adapters["reference"] = "reference"
        else:
            self.policy = get_peft_model(base, lora_config(config.lora))
        fuse_kernels(self.policy)  # the adapters' own layers
        self._trained = {name for name, parameter in self.policy.named_parameters() if parameter.requires_grad}

    @property
    def lora(self) -> bool:
        """Whether the roles are adapters."""
        return self.reference is None

    def has(self, role: Role) -> bool:
        """Whether there is such a role."""
        return role in self._adapters

    @contextmanager
    def role(self, role: Role) -> Iterator[PreTrainedModel | PeftModel]:
        """The network in a role; the policy is back in place afterwards, also after an exception."""
        if role == "policy":
            yield self.policy
        elif role == "reference" and self.reference is not None:
            yield self.reference
        elif self._adapters[role] is None:
            with self.policy.disable_adapter():
                yield self.policy
        else:
            self._activate(self._adapters[role])
            try:
                yield self.policy
            finally:
                self._activate(POLICY)

    def _activate(self, adapter: str | None) -> None:
        self.policy.set_adapter(adapter, inference_mode=True)
        for name, parameter in self.policy.named_parameters():  # by name: FSDP puts others in their place
            if name in self._trained:  # and peft has frozen it just now
                parameter.requires_grad_(True)

    def can_carry(self, folder: Path) -> bool:
        """Whether a result folder holds an adapter that fits on the base weights of this backbone."""
        return self.lora and is_adapter(folder) and _same_model(base_of(folder), self._base)

    def add_reward_adapter(self, folder: Path, role: Literal["reward", "value"] = "reward") -> nn.Linear:
        """Put a reward model's adapter on the shared weights, frozen as "reward" or to be trained as "value".

        Returns:
            Its scalar head, D → 1.
        """
        config = LoraConfig.from_pretrained(str(folder))
        config.task_type, config.modules_to_save, config.inference_mode = TaskType.CAUSAL_LM, None, True
        weights = load_peft_weights(str(folder), device="cpu")
        head_weight = weights.pop(f"base_model.model.{REWARD_HEAD}.weight").float()
        self.policy.add_adapter(role, config)
        set_peft_model_state_dict(self.policy, weights, adapter_name=role)
        self._adapters[role] = role
        if role == "value":
            self._trained |= {name for name, _ in self.policy.named_parameters() if f".{role}." in name}
        self._activate(POLICY)
        head = nn.Linear(head_weight.shape[1], 1, bias=False)
        head.weight = nn.Parameter(head_weight)
        return head.to(self.device)


def _same_model(one: str, other: str) -> bool:
    return one == other or (Path(one).exists() and Path(one).resolve() == Path(other).resolve())


class SharedRewardModel(nn.Module):
    """The backbone in its role as reward model: called like a sequence classifier with one label.

    Args:
        backbone: holds the role "reward". It is no submodule: whoever freezes this module freezes the head alone.
        head: D → 1.
    """

    def __init__(self, backbone: Backbone, head: nn.Linear) -> None:
        super().__init__()
        self.head = head
        self._backbone = lambda: backbone

    @property
    def base_model(self) -> nn.Module:
        """The trunk, as in transformers' models; it is in this role only during a pass."""
        return causal_lm(self._backbone().policy).base_model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False) -> SimpleNamespace:
        """`logits` (B, 1) at the last real token of sequences (B, T) that are padded on the right."""
        with self._backbone().role("reward"):
            passed = self.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)
        hidden = passed.last_hidden_state
        last = attention_mask.sum(1) - 1
        return SimpleNamespace(logits=self.head(hidden[torch.arange(len(last)), last].to(self.head.weight.dtype)))
