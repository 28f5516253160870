"""What the next version is made of: a frozen snapshot of new judgements, old pairs to replay, a folder of its own.

    snapshot = Snapshot.of(pairs, config, parent="ppo", since=0.0, until=time.time(), left_out={})
    snapshot.save(folder)                    # pairs.jsonl, snapshot.json
    job = making(run, "v1", policy=Path("models/tiny/ppo"), snapshot, earlier=[])

`making` gives a `Run` like any other: its folder is `DIR/versions/v1`, its data are those of the whole run with the
judgements among the pairs, so the phases `reward` and `ppo` train on it as they are.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from transformers import PreTrainedTokenizerFast

from rlhf.config import Config, SourceSpec, parse_config
from rlhf.data import jsonl
from rlhf.data.hashing import fraction
from rlhf.data.mixing import split_of
from rlhf.data.source import Judge, Sampler
from rlhf.errors import UserError
from rlhf.records import Conversation, Demonstration, Preference, Prompt
from rlhf.registry import FOLDER
from rlhf.run import Data, Run, Split

PAIRS, ABOUT = "pairs.jsonl", "snapshot.json"
SOURCE = "feedback"


class Snapshot(NamedTuple):
    """New judgements as they were when a version was begun."""

    pairs: list[Preference]
    """To train on."""
    held_out: list[Preference]
    """To measure on: prompts of the validation and test splits, and a share of the others."""
    parent: str
    """The version that was live."""
    since: float
    """Judgements after this time (Unix, seconds) …"""
    until: float
    """… and up to this one."""
    left_out: dict[str, int]
    """Judgements that made no pair, by reason."""

    @classmethod
    def of(
        cls, pairs: Sequence[Preference], config: Config, parent: str, since: float, until: float,
        left_out: dict[str, int],
    ) -> Self:  # fmt: skip
        """Divide pairs by a hash of what is asked, so that a prompt is on one side whoever asks it, and whenever."""
        sides: tuple[list[Preference], list[Preference]] = ([], [])
        for pair in pairs:
            sides[_is_held_out(pair, config)].append(pair)
        return cls(*sides, parent, since, until, left_out)

    def save(self, folder: Path) -> None:
        """Write the pairs in TRL's format, and what there is to say of them."""
        rows = [*self.pairs, *self.held_out]
        (folder / PAIRS).write_text("".join(json.dumps(_row(pair)) + "\n" for pair in rows), encoding="utf-8")
        about = {key: getattr(self, key) for key in ("parent", "since", "until", "left_out")}
        (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: Config) -> Self:
        """What `save` has written. Raises `UserError` where it is damaged."""
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            parent, since, until, left_out = (about[key] for key in ("parent", "since", "until", "left_out"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is no snapshot of judgements.", found=str(error),
                            remedy="start again without --resume") from None  # fmt: skip
        pairs = jsonl.SOURCE.preferences(SourceSpec(source="jsonl", path=str(folder / PAIRS)))
        return cls.of([replace(p, source=SOURCE) for p in pairs], config, parent, since, until, left_out)

    def counts(self) -> dict[str, Any]:
        """For the registry."""
        return {
            "pairs": dict(Counter(pair.kind for pair in self.pairs)),
            "held_out": len(self.held_out),
            "left_out": self.left_out,
            "since": self.since,
            "until": self.until,
        }


@dataclass(frozen=True)
class JudgedData:
    """`rlhf.run.Data` of a whole run, where the pairs are the new judgements and old pairs that are replayed.

    Args:
        whole: the run's own data.
        snapshot: the new judgements.
        earlier: pairs that the version's ancestors have learned from.
        replay: old pairs for each new one.
        seed: which of the old pairs.
    """

    whole: Data
    snapshot: Snapshot
    earlier: Sequence[Preference] = ()
    replay: float = 1.0
    seed: int = 0

    def preferences(self, split: Split, sampler: Sampler | None = None) -> list[Preference]:
        """Train: the new pairs and the replayed ones. Validation: those held out, and as many old ones."""
        if split == "train":
            return [*self.snapshot.pairs, *self.replayed()]
        if split == "test":
            return self.whole.preferences("test", sampler)
        return [*self.snapshot.held_out, *self.whole.preferences("validation")[: max(1, len(self.snapshot.held_out))]]

    def replayed(self) -> list[Preference]:
        """Old pairs: half of them judgements of earlier rounds, as far as there are any, the others the run's own."""
        dice, wanted = random.Random(self.seed), round(self.replay * len(self.snapshot.pairs))
        judged = dice.sample(list(self.earlier), min(len(self.earlier), wanted // 2))
        own = self.whole.preferences("train") if wanted > len(judged) else []
        return [*judged, *dice.sample(own, min(len(own), wanted - len(judged)))]

    def prompts(self, split: Split) -> list[Prompt]:
        """The run's own, and in training what people have asked, each conversation once."""
        found = self.whole.prompts(split)
        if split != "train":
            return found
        known = {prompt.prompt for prompt in found}
        asked = {pair.prompt: pair for pair in self.snapshot.pairs if pair.prompt not in known}
        return [*found, *(Prompt(p.id, p.prompt, p.category, SOURCE, origin=p.id) for p in asked.values())]

    def demonstrations(self, split: Split) -> list[Demonstration]:
        return self.whole.demonstrations(split)

    def extra_preferences(self) -> dict[str, list[Preference]]:
        return self.whole.extra_preferences()

    def ood(self, limit: int) -> dict[str, list[Prompt]]:
        return self.whole.ood(limit)

    def text(self) -> list[str]:
        return self.whole.text()

    def judge(self) -> Judge | None:
        return self.whole.judge()


@dataclass(frozen=True)
class VersionRun(Run):
    """The making of a version: a folder and data of its own, the tokenizer of the whole run."""

    whole: Run | None = None

    def tokenizer(self) -> PreTrainedTokenizerFast:
        assert self.whole
        return self.whole.tokenizer()

    def command(self, phase: str) -> str:
        """What makes the version, whichever of its phases is asked for."""
        return f"python main.py --phase improve {self.arguments}".strip()


def making(run: Run, name: str, snapshot: Snapshot, earlier: Sequence[Preference]) -> VersionRun:
    """The run that makes a version; equal for equal snapshots, so that it can be resumed."""
    config = update_config(run.config, name)
    data = JudgedData(run.data, snapshot, earlier, config.improve.replay, config.seed)
    return VersionRun(config, run.folder / FOLDER / name, data, run.resume, run.arguments, whole=run)


def update_config(config: Config, name: str) -> Config:
    """The configuration of an update: what `improve` lays over `reward` and `ppo`, and random numbers of its own.

    Raises:
        UserError: a key or value that the section refuses.
    """
    values, settings = config.model_dump(), config.improve
    number = int(name[1:]) if name[1:].isdigit() else 0
    values |= {"seed": config.seed + number, "reward": values["reward"] | settings.reward}
    values["ppo"] |= settings.ppo | ({"total_episodes": settings.episodes} if settings.episodes else {})
    return parse_config(values, origin="the section improve")


def _is_held_out(pair: Preference, config: Config) -> bool:
    """Whether a pair is to be measured on. The splits come first: what phase `test` asks is never trained on."""
    return split_of(pair.id, config.data) != "train" or fraction(pair.id, "improve") < config.improve.held_out


def _row(pair: Preference) -> dict[str, Any]:
    row = {"prompt": _turns(pair.prompt), "chosen": pair.chosen, "rejected": pair.rejected}
    return row | {"kind": pair.kind, "category": pair.category}


def _turns(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in conversation]
