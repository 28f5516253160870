"""What the loop is measured by: gold on held-out prompts, what the reward model knows, and the same PPO without people.

Every version replies to the same prompts with the same luck, at the temperature at which people met it and greedily.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import say
from reward_model import RewardModel
from rlhf.encoding import Encoder
from rlhf.evaluation.statistics import bootstrap_ci, right
from rlhf.evaluation.text import distinct_n
from rlhf.evaluation.versus import Paired
from rlhf.generation import sample_replies
from rlhf.improvement import Snapshot, making
from rlhf.models import load_causal_lm
from rlhf.phases.evaluate import score_set
from rlhf.phases.improve import FEEDBACK
from rlhf.phases.ppo import train_policy
from rlhf.records import Preference, Prompt
from rlhf.registry import FOLDER, Registry
from rlhf.run import Run

SAMPLES = 2
"""Replies a prompt, sampled."""
PAIRS = 1000
"""Held-out judged pairs of the run's data, at most; the loop's first reward model has seen none of their kind."""


@dataclass(frozen=True)
class Measured:
    """One policy: gold of its replies (N,), mean over the samples of a prompt, and greedy ones."""

    gold: list[float]
    greedy: list[float]
    length: float
    distinct_2: float
    pairs: list[Preference]
    """Of each prompt the two sampled replies, the one with more gold as the chosen one; none where gold is equal."""

    def numbers(self) -> dict[str, Any]:
        """For the JSON: means and 95% intervals."""
        found: dict[str, Any] = {"length": self.length, "distinct_2": self.distinct_2}
        for name, values in (("gold", self.gold), ("greedy", self.greedy)):
            found |= {name: float(np.mean(values)), f"{name}_ci95": bootstrap_ci(values)}
        return found


def measure(run: Run, policy: Path, prompts: list[Prompt], title: str) -> Measured:
    """Gold of a policy's replies to held-out prompts."""
    judge, settings = run.data.judge(), run.config
    if judge is None:
        raise SystemExit("the loop is measured by gold, and this data has no judge")
    encoder = Encoder(run.tokenizer(), settings.data)
    model = load_causal_lm(str(policy), encoder.tokenizer, settings.model.precision, run.device)
    temperatures = [*[settings.chat.temperature] * SAMPLES, 0.0]
    replies = [
        sample_replies(model, encoder, prompts, temperature=temperature, batch_size=settings.test.batch_size,
                       seed=1000 + n, title=f"{title} at temperature {temperature}")
        for n, temperature in enumerate(temperatures)
    ]  # fmt: skip
    gold = np.array([[judge(p, r.text) or 0.0 for p, r in zip(prompts, said, strict=True)] for said in replies])
    sampled = [reply for said in replies[:SAMPLES] for reply in said]
    return Measured(
        gold=[float(value) for value in gold[:SAMPLES].mean(0)],
        greedy=[float(value) for value in gold[SAMPLES]],
        length=float(np.mean([len(reply.reply_ids) - reply.ended for reply in sampled])),
        distinct_2=distinct_n([reply.text for reply in replies[0]], 2) or 0.0,
        pairs=_pairs(prompts, [[reply.text for reply in said] for said in replies[:2]], gold[0] - gold[1]),
    )


def _pairs(prompts: list[Prompt], texts: list[list[str]], gaps: Any) -> list[Preference]:
    found = []
    for prompt, one, two, gap in zip(prompts, *texts, gaps, strict=True):
        if abs(gap) > 1e-6 and one.strip() and two.strip():
            better, worse = (one, two) if gap > 0 else (two, one)
            found.append(Preference(prompt.id, prompt.prompt, better, worse, "sampled"))
    return found


def against(new: Measured, old: Measured) -> dict[str, Any]:
    """Paired differences, sampled and greedy."""
    return {"gold": Paired.of(new.gold, old.gold)._asdict(), "greedy": Paired.of(new.greedy, old.greedy)._asdict()}


def accuracy(run: Run, reward: Path, pairs: list[Preference]) -> float:
    """Share of held-out pairs, by clean labels, that a reward model gets right."""
    model = RewardModel.load(reward, run.tokenizer(), run.config.model.precision, run.device)
    encoder = Encoder(run.tokenizer(), run.config.data)
    return float(right(score_set("held out", pairs, model, encoder).margins).mean())


def two_replies(run: Run, policy: Path, duels: int, seed: int) -> list[tuple[Prompt, str, str]]:
    """Two sampled replies to each of some training prompts, as a server would show them; equal ones are not shown."""
    prompts = random.Random(seed).sample(run.data.prompts("train"), 2 * duels)
    encoder = Encoder(run.tokenizer(), run.config.data)
    model = load_causal_lm(str(policy), encoder.tokenizer, run.config.model.precision, run.device)
    sides = [
        sample_replies(model, encoder, prompts, temperature=run.config.chat.temperature,
                       batch_size=run.config.test.batch_size, seed=seed * 2 + n, title="duels")
        for n in range(2)
    ]  # fmt: skip
    found = [(p, a.text, b.text) for p, a, b in zip(prompts, *sides, strict=True) if a.text.strip() != b.text.strip()]
    return [row for row in found if row[1].strip() and row[2].strip()][:duels]


def without_people(run: Run, rounds: int) -> Mapping[str, Path]:
    """The ablation: PPO as in each round, on the same prompts with the same luck, but the first reward model stays."""
    registry = Registry(run.folder)
    policy, reward = registry.path(registry.fallback()), registry.reward_path(registry.fallback())
    found: dict[str, Path] = {}
    for name in (f"v{number + 1}" for number in range(rounds)):
        snapshot = Snapshot.load(run.folder / FOLDER / name / FEEDBACK)
        job = replace(making(run, name, snapshot), folder=run.folder / "ablation" / name)
        if not (job.folder / "ppo").is_dir():
            say(f"ablation {name}")
            train_policy(job, reward, str(policy))
        policy = found[name] = job.folder / "ppo"
    return found


def kept_update(policy: Path) -> int:
    """Which update of PPO a policy is of: the best one on the held-out prompts; 0: none was better than its parent."""
    lines = map(json.loads, (policy / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return int([line["best/update"] for line in lines if "best/update" in line][-1])
