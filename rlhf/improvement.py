"""What the next version is made of: a frozen snapshot of judgements, old pairs to replay, a folder of its own.

    snapshot = Snapshot.of(new, earlier, config, parent="ppo", left_out={})
    snapshot.save(folder)                    # pairs.jsonl, held_out.jsonl, earlier.jsonl, snapshot.json
    job = making(run, "v1", snapshot)

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

ABOUT = "snapshot.json"
SOURCE = "feedback"
SIDES = ("pairs", "held_out", "earlier")
"""Fields of a snapshot, and its files."""


class Snapshot(NamedTuple):
    """Judgements as they were when a version was begun."""

    pairs: list[Preference]
    """New ones, to train on."""
    held_out: list[Preference]
    """New ones, to measure on: prompts of the validation and test splits, and a share of the others."""
    earlier: list[Preference]
    """What the version's ancestors have learned from and still stands, to replay."""
    parent: str
    """The version that was live."""
    left_out: dict[str, int]
    """Judgements that made no new pair, by reason."""

    @classmethod
    def of(
        cls, new: Sequence[Preference], earlier: Sequence[Preference], config: Config, parent: str,
        left_out: dict[str, int],
    ) -> Self:  # fmt: skip
        """Divide pairs by a hash of what is asked, so that a prompt is on one side whoever asks it, and whenever."""
        sides: tuple[list[Preference], list[Preference]] = ([], [])
        for pair in new:
            sides[_is_held_out(pair, config)].append(pair)
        return cls(*sides, [pair for pair in earlier if not _is_held_out(pair, config)], parent, left_out)

    def save(self, folder: Path) -> None:
        """Write the pairs in TRL's format, and what there is to say of them."""
        for name in SIDES:
            rows = "".join(json.dumps(_row(pair)) + "\n" for pair in getattr(self, name))
            (folder / f"{name}.jsonl").write_text(rows, encoding="utf-8")
        about = {key: getattr(self, key) for key in ("parent", "left_out")}
        (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` has written, each pair on the side where it was. Raises `UserError` where it is damaged."""
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            new, held_out, earlier = (_read(folder / f"{name}.jsonl") for name in SIDES)
            return cls(new, held_out, earlier, about["parent"], about["left_out"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is no snapshot of judgements.", found=str(error),
                            remedy="start again without --resume") from None  # fmt: skip

    def counts(self) -> dict[str, Any]:
        """For the registry."""
        return {
            "pairs": dict(Counter(pair.kind for pair in self.pairs)),
            "held_out": len(self.held_out),
            "left_out": self.left_out,
        }


@dataclass(frozen=True)
class JudgedData:
    """`rlhf.run.Data` of a whole run, where the pairs are the new judgements and old pairs that are replayed.

    Args:
        whole: the run's own data; judgements among its pairs are left out, since they come by the snapshot.
        snapshot: the judgements.
        config: how many old pairs are replayed, and by its seed, which.
    """

    whole: Data
    snapshot: Snapshot
    config: Config

    def preferences(self, split: Split, sampler: Sampler | None = None) -> list[Preference]:
        """Train: the new pairs and the replayed ones. Validation and test: the run's own pairs.

        The new judgements that are held out measure; so they are not in validation, which may choose a checkpoint,
        unless the run has no pairs but judgements.
        """
        if split == "train":
            return [*self.snapshot.pairs, *self.replayed()]
        own = self._own(split, sampler)
        return own or self.snapshot.held_out if split == "validation" else own

    def replayed(self) -> list[Preference]:
        """Old pairs: half of them judgements of earlier rounds, as far as there are any, the others the run's own."""
        dice = random.Random(self.config.seed)
        wanted, earlier = round(self.config.improve.replay * len(self.snapshot.pairs)), self.snapshot.earlier
        judged = dice.sample(earlier, min(len(earlier), wanted // 2))
        own = self._own("train") if wanted > len(judged) else []
        own = [pair for pair in own if not _is_held_out(pair, self.config)]
        return [*judged, *dice.sample(own, min(len(own), wanted - len(judged)))]

    def _own(self, split: Split, sampler: Sampler | None = None) -> list[Preference]:
        return [pair for pair in self.whole.preferences(split, sampler) if pair.source != SOURCE]

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


def making(run: Run, name: str, snapshot: Snapshot) -> VersionRun:
    """The run that makes a version; equal for equal snapshots, so that it can be resumed."""
    config = update_config(run.config, name)
    data = JudgedData(run.data, snapshot, config)
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


def _read(file: Path) -> list[Preference]:
    if not file.stat().st_size:
        return []
    return [
        replace(pair, source=SOURCE) for pair in jsonl.SOURCE.preferences(SourceSpec(source="jsonl", path=str(file)))
    ]


def _row(pair: Preference) -> dict[str, Any]:
    row = {"prompt": _turns(pair.prompt), "chosen": pair.chosen, "rejected": pair.rejected}
    return row | {"kind": pair.kind, "category": pair.category}


def _turns(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in conversation]
