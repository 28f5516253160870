"""Phase improve: new judgements → reward model → policy → a challenger, held against the version that answers now.

    python main.py --phase improve              # leaves DIR/versions/v1: feedback, reward, ppo, evaluation
    python main.py --phase improve --resume     # goes on with one that was begun and not registered

Everything is made from the live version: its reward model goes on with the new pairs and some old ones, PPO starts from
its policy and is held near it. The result is registered as the last step, as a candidate. What is live does not change;
where another version has become live in the meantime, the new one is the challenger of that one, and it is said.
One version is made at a time; a second process is refused.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from rlhf.allocator import return_freed_memory
from rlhf.chat.feedback import FILE, FeedbackStore
from rlhf.chat.store.judgements import collect
from rlhf.data.feedback import preferences_of
from rlhf.errors import UserError
from rlhf.evaluation.versus import Metrics, duel_table, verdict
from rlhf.improvement import Snapshot, VersionRun, making, update_config
from rlhf.phases.head_to_head import Side, head_to_head
from rlhf.phases.ppo import train_policy
from rlhf.phases.reward import update
from rlhf.records import Conversation, Preference
from rlhf.registry import FOLDER, Registry, Version
from rlhf.rewards.specs import uses_model
from rlhf.run import Run
from rlhf.trainer_keys import check_trainer_sections

FEEDBACK, EVALUATION = "feedback", "evaluation"
METRICS, SAMPLES = "metrics.json", "samples.jsonl"


def run_phase(run: Run) -> dict[str, float]:
    """Make the next version from new judgements and register it as the challenger. Leaves `DIR/versions/NAME`.

    Raises:
        UserError: too few new pairs, no reward model to go on from, or what the phases refuse.
    """
    check_trainer_sections(update_config(run.config, "v1"))
    registry = Registry(run.folder)
    with registry.alone():
        return _improve(run, registry, registry.live())


def _improve(run: Run, registry: Registry, live: Version) -> dict[str, float]:
    reward = registry.reward_path(live)
    if reward is None or not reward.is_dir():
        raise UserError(f"The live version {live.name} has no reward model to go on from.",
                        expected=str(reward or run.folder / "reward"),
                        remedy=f"run: {run.command('reward')}")  # fmt: skip
    name, snapshot = _begun(run, registry, live) if run.resume else _begin(run, registry, live)
    job = making(run, name, snapshot)
    old, new = Side(registry.path(live), reward), Side(job.folder / "ppo", job.folder / "reward")
    print(f"{name}: {len(snapshot.pairs)} new pairs, {len(snapshot.held_out)} to measure on; parent {live.name}")
    _step(job, 1, "reward", lambda: update(job, old.reward))
    reward_folder = new.reward if uses_model(job.config.ppo.rewards) or job.config.ppo.value == "adapter" else None
    best = _step(job, 2, "ppo", lambda: train_policy(job, reward_folder, str(old.policy)))
    if best.get("best/update") == 0:
        print(
            f"{name}: no update of PPO was better than {live.name} on the held-out prompts, so the policy is the same"
        )
    _step(job, 3, EVALUATION, lambda: _evaluate(job, old, new, snapshot))
    metrics: Metrics = json.loads((job.folder / EVALUATION / METRICS).read_text(encoding="utf-8"))
    now = _register(registry, job, live, snapshot, metrics)
    print(f"\n{duel_table(metrics, name, live.name)}\n\n{verdict(metrics, name, live.name)}")
    if now.name != live.name:
        print(_overtaken(run, name, live.name, now.name))
    print(f"{name} is the challenger of {now.name}; to make it live: {run.command('versions')} promote {name}")
    return metrics


def _overtaken(run: Run, name: str, parent: str, live: str) -> str:
    """What to know and to do where another version has become live while one was made."""
    return (
        f"ATTENTION: while {name} was made from {parent}, {live} has become live. {name} knows nothing of what {live} "
        f"has learned, and the comparison above is with {parent}: it does not say whether {name} is better than {live}."
        f"\nDuels and thumbs will say so ({run.command('serve')}; {run.command('versions')} compare {name} {live}). "
        f"To make a challenger from {live} instead, which takes the place of {name}: {run.command('improve')}"
    )


def _begin(run: Run, registry: Registry, live: Version) -> tuple[str, Snapshot]:
    """The next name, and the judgements that there are, frozen in the version's folder."""
    snapshot = take_snapshot(run, registry, live)
    found, wanted = len(snapshot.pairs), run.config.improve.min_pairs
    if found < wanted:
        raise UserError(
            f"Too few new judgements to learn from, besides those that {live.name} knows.",
            expected=f"{wanted} pairs to train on (improve.min_pairs)",
            found=f"{found}, and {len(snapshot.held_out)} held out; left out: {_in_words(snapshot.left_out)}",
            remedy=f"judge more replies ({run.command('serve')}), or --set improve.min_pairs={max(1, found)}",
        )
    name = registry.next_name()
    making(run, name, snapshot).publish(FEEDBACK, snapshot.save)
    return name, snapshot


def _begun(run: Run, registry: Registry, live: Version) -> tuple[str, Snapshot]:
    """The last version, if it has its judgements and is not registered; else a new one."""
    name = registry.last_name()
    folder = run.folder / FOLDER / (name or "")
    if name is None or any(version.name == name for version in registry.versions()) or not (folder / FEEDBACK).is_dir():
        print("no version was begun and not finished: a new one is")
        return _begin(run, registry, live)
    snapshot = Snapshot.load(folder / FEEDBACK)
    if snapshot.parent != live.name:
        raise UserError(f"{folder} was begun from version {snapshot.parent}, and now {live.name} is live.",
                        remedy="start again without --resume")  # fmt: skip
    making(run, name, snapshot).is_up_to_date(FEEDBACK)
    print(f"going on with {name}")
    return name, snapshot


def take_snapshot(run: Run, registry: Registry, live: Version) -> Snapshot:
    """All judgements that stand: the new ones, and those that the live version or its ancestors have learned from.

    Raises:
        UserError: there is no database of judgements, or it is none of ours.
    """
    path = run.folder / FILE
    if not path.is_file():
        raise UserError(f"There are no judgements: {path} does not exist.",
                        remedy=f"let people judge replies first: {run.command('serve')}")  # fmt: skip
    with FeedbackStore(path, create=False) as store:
        judgements = collect(store)
    found, left_out, before = (
        preferences_of(judgements),
        dict(judgements.left_out),
        earlier_snapshots(run, registry, live),
    )
    learned = {_key(pair) for old in before for pair in old.pairs}
    known = learned | {_key(pair) for old in before for pair in old.held_out}
    new = [pair for pair in found if _key(pair) not in known]
    if len(new) < len(found):
        left_out["known to an earlier version"] = len(found) - len(new)
    return Snapshot.of(new, [pair for pair in found if _key(pair) in learned], run.config, live.name, left_out)


def earlier_snapshots(run: Run, registry: Registry, live: Version) -> list[Snapshot]:
    """What the live version and its ancestors have learned from."""
    found: list[Snapshot] = []
    version: Version | None = live
    while version is not None:
        folder = run.folder / FOLDER / version.name / FEEDBACK
        found += [Snapshot.load(folder)] if folder.is_dir() else []
        version = registry.get(version.parent) if version.parent else None
    return found


def _key(pair: Preference) -> tuple[Conversation, str, str]:
    return pair.prompt, pair.chosen, pair.rejected


def _step(job: VersionRun, number: int, name: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """One of three steps; what is finished is kept with `--resume`."""
    if job.resume and name != EVALUATION and job.is_up_to_date(name):
        print(f"[{number}/3] {name}: finished before, kept")
        return {}
    print(f"[{number}/3] {name}")
    started = time.perf_counter()
    found = make()
    return_freed_memory()
    print(f"[{number}/3] {name} took {time.perf_counter() - started:.0f} s")
    return found


def _evaluate(job: VersionRun, old: Side, new: Side, snapshot: Snapshot) -> Metrics:
    metrics, samples = head_to_head(job, old, new, snapshot.held_out)

    def write(folder: Path) -> None:
        (folder / METRICS).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in samples)
        (folder / SAMPLES).write_text(rows, encoding="utf-8")

    job.publish(EVALUATION, write)
    return metrics


def _register(registry: Registry, job: VersionRun, live: Version, snapshot: Snapshot, metrics: Metrics) -> Version:
    """The last step, and one: the new version is the candidate, a former one is retired. Returns what is live then."""
    folder = job.folder.relative_to(registry.run_folder)
    replayed = len(job.data.preferences("train")) - len(snapshot.pairs)
    return registry.register(
        Version(
            name=job.folder.name,
            folder=str(folder / "ppo"),
            reward=str(folder / "reward"),
            parent=live.name,
            data=snapshot.counts() | {"replayed": replayed},
            config=str(folder / "ppo" / "config.yaml"),
            metrics=metrics,
        ),
        alone=True,
    )


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "none"
