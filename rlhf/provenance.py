"""Which settings a result depends on, and which of them differ from those that it was made with.

found = differences(load_config(folder / "config.yaml"), config, dependencies("sft"))
found == {"sft.learning_rate": (0.001, 0.5)}        # then and now
"""

import math
from collections.abc import Iterable
from typing import Any

import yaml

from rlhf.config import Config

SHARED = ("model", "data", "seed")
"""Sections that every result depends on, but for the keys of `LATE_DATA`: all results of a folder share them."""

LATE_DATA = {"data.preferences", "data.prompts"}
"""Data that base and SFT never see: new judgements ask for a new reward model, not for a new SFT."""

_SFT = (*SHARED, "base", "lora", "sft")
_REWARD = (*_SFT, "reward", "data.preferences")
_SECTIONS = {"base": (*SHARED, "base"), "sft": _SFT, "reward": _REWARD, "ppo": (*_REWARD, "ppo", "data.prompts")}
"""Phase → its own section and those upstream, and keys by themselves; `test` and `report_to` change no weights."""

_OF_VERSIONS = {"feedback": ("improve.held_out", "improve.replay")}
"""The judgements of a version → what divides them, and how many old pairs come with them."""

_SAME_AS = {"ppo_from_base": "ppo", "rlhf_gpt_neo_model": "ppo", "rlhf_reward_model": "reward"}

UNTRAINED = {"model.device", "data.ood", "data.extra_preferences"}
"""Settings that no training depends on: where it runs, and what is only tested."""

Differences = dict[str, tuple[Any, Any]]
"""Dotted key → its value then and now; None where it was not set."""


def dependencies(result: str) -> tuple[str, ...]:
    """The sections, and single keys, that a result or a merged model depends on."""
    return (_SECTIONS | _OF_VERSIONS)[_SAME_AS.get(result, result)]


def upstream(result: str) -> list[str]:
    """The phases whose results a result or a merged model starts from, in order; for a report, all."""
    order, phase = list(_SECTIONS), _SAME_AS.get(result, result)
    return order[: order.index(phase)] if phase in order else order


def differences(then: Config, now: Config, sections: Iterable[str]) -> Differences:
    """What differs in these sections and keys, of what training depends on; empty where nothing does."""
    before, after = (_keys(config.model_dump(mode="json")) for config in (then, now))
    asked = set(sections)
    skipped = UNTRAINED | (LATE_DATA - asked)
    return {
        key: (before.get(key), after.get(key))
        for key in before | after
        if {key, key.partition(".")[0]} & asked and key not in skipped and before.get(key) != after.get(key)
    }


def in_words(found: Differences) -> str:
    """ "ppo.kl_coef: 0.05 then, 9 now; …"."""
    return "; ".join(f"{key}: {_short(then)} then, {_short(now)} now" for key, (then, now) in found.items())


def _keys(values: dict[str, Any]) -> dict[str, Any]:
    """The values under dotted keys, one level deep."""
    flat: dict[str, Any] = {}
    for section, value in values.items():
        flat |= {f"{section}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {section: value}
    return flat


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    text = yaml.safe_dump(_without_unset(value), default_flow_style=True, width=math.inf).replace("\n...", "").strip()
    return text if len(text) <= 200 else (text[:200].rpartition(" ")[0] or text[:200]) + " …"


def _without_unset(value: Any) -> Any:
    """The value without the keys, at any depth, that are not set."""
    if isinstance(value, dict):
        return {key: _without_unset(item) for key, item in value.items() if item is not None}
    return [_without_unset(item) for item in value] if isinstance(value, list) else value
