"""The whole loop with simulated people: serve → duels over HTTP → improve → promote, again and again.

    python -m benchmarks.loop --run models/tiny --rounds 3 --duels 300 --out docs/results

RUN holds base and sft, made by `main.py --phase all` or `--phase sft`. A folder of its own, WORK, begins with copies of
them and with a reward model that no person has had a part in: its pairs are made from the demonstrations. SFT is live
first. Then, in each round, the real server runs, simulated raters judge, `--phase improve` makes a version, and it is
promoted. In the end all versions meet on the same held-out prompts, and so does what PPO makes of the first reward
model alone. Leaves OUT/loop.json, OUT/loop.png and the table between the marks in OUT/loop.md.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.processes import say, write_json
from rlhf.threads import choose_wait_policy

SETTINGS = [
    "chat.temperature=1.0",  # duels of replies that differ
    "reward.num_train_epochs=2",  # of the first reward model
    "improve.reward={num_train_epochs: 3, warmup_steps: 5, learning_rate: 5.0e-4}",
    "improve.replay=2", "improve.episodes=640",
    "guardrails.requests_per_minute=6000",  # raters are no people in a hurry
]  # fmt: skip
"""What differs from the configuration."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="holds base and sft")
    parser.add_argument("--work", type=Path, help="where the loop runs (RUN-loop); goes on where it was left")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="for the results (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duels", type=int, default=300, help="a round (%(default)s)")
    parser.add_argument("--pairs", type=int, default=1500, help="made, of the first reward model (%(default)s)")
    parser.add_argument("--prompts", type=int, default=600, help="held out, to measure on (%(default)s)")
    parser.add_argument("--config", default="configs/tiny.yaml", help="as for main.py (%(default)s)")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="as for main.py")
    parser.add_argument("--direct", action="store_true", help="votes straight into the database, without a server")
    args = parser.parse_args()
    args.work = args.work or args.run.with_name(f"{args.run.name}-loop")
    return args


def main() -> None:
    args = parse()
    choose_wait_policy()
    begin(args)
    rounds = [play(args, number) for number in range(1, args.rounds + 1)]
    result = {"settings": settings(args), "duels": args.duels, "pairs": args.pairs, "rounds": rounds}
    result |= measured(args, rounds)
    from benchmarks.loop_summary import draw, into_page
    from benchmarks.machine import described
    from rlhf.evaluation.style import save

    args.out.mkdir(parents=True, exist_ok=True)
    write_json(result | {"machine": described()}, args.out / "loop.json")
    save(draw(result), args.out / "loop.png")
    print(into_page(result, args.out / "loop.md"))


def settings(args: argparse.Namespace) -> list[str]:
    """The overrides, the caller's last."""
    made = f"data.preferences=[{{source: made, limit: {args.pairs}}}]"
    return [made, f"improve.prompts={args.prompts}", *SETTINGS, *args.set]


def arguments(args: argparse.Namespace) -> list[str]:
    return ["--config", args.config, "--output", str(args.work), "--set", *settings(args)]


def main_py(args: argparse.Namespace, phase: str, *more: str) -> None:
    """A phase in a process of its own, as a person would run it."""
    subprocess.run([sys.executable, "main.py", *more, "--phase", phase, *arguments(args)], check=True)


def begin(args: argparse.Namespace) -> None:
    """The start: base and SFT as they are, and a reward model from made pairs."""
    args.work.mkdir(parents=True, exist_ok=True)
    for name in ("base", "sft"):
        if not (args.work / name).is_dir():
            shutil.copytree(args.run / name, args.work / name)
    if not (args.work / "reward").is_dir():
        main_py(args, "reward")


def play(args: argparse.Namespace, number: int) -> dict[str, Any]:
    """A round: people judge, a version is made and promoted. What was done before is not done again."""
    from rlhf.registry import Registry

    registry, name = Registry(args.work), f"v{number}"
    note = args.work / f"round-{number}.json"
    if not note.is_file():
        started = time.perf_counter()
        tally = judge_directly(args, number) if args.direct else judge_served(args, number)
        write_json({"votes": dict(tally), "judging_s": time.perf_counter() - started}, note)
    if name not in {version.name for version in registry.versions()}:
        started = time.perf_counter()
        main_py(args, "improve", "--resume")
        write_json(json.loads(note.read_text()) | {"improve_s": time.perf_counter() - started}, note)
    if registry.get(name).state == "candidate":
        main_py(args, "versions", "promote", name)
    version = registry.get(name)
    return json.loads(note.read_text()) | {"version": name, "data": version.data, "improve": version.metrics}


def judge_served(args: argparse.Namespace, number: int) -> Counter[str]:
    from benchmarks.loop_raters import rate, served
    from dataloader import load_judge
    from rlhf.config import load_config

    config = load_config(args.config, settings(args))
    judge = load_judge(config)
    assert judge, "the raters follow a gold judge, and this data has none"
    with served(args.work, arguments(args)) as address:
        say(f"round {number}: {args.duels} duels at {address.url}")
        return rate(address, judge, args.duels, 1000 * config.seed + number)


def judge_directly(args: argparse.Namespace, number: int) -> Counter[str]:
    from benchmarks.loop_measure import two_replies
    from benchmarks.loop_raters import rate_directly
    from rlhf.registry import Registry

    run, live = the_run(args), Registry(args.work).live()
    seed = 1000 * run.config.seed + number
    shown = two_replies(run, Registry(args.work).path(live), args.duels, seed)
    judge = run.data.judge()
    assert judge
    return rate_directly(args.work, judge, seed, live.name, shown)


def the_run(args: argparse.Namespace) -> Any:
    from dataloader import DataRoom
    from rlhf.config import load_config
    from rlhf.run import Run

    config = load_config(args.config, settings(args))
    return Run(config, args.work, DataRoom(config))


def measured(args: argparse.Namespace, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """All versions, and those without people, on the same held-out prompts and pairs."""
    from benchmarks.loop_measure import PAIRS, accuracy, against, kept_update, measure, without_people
    from dataloader import load_preferences
    from rlhf.config import load_config
    from rlhf.registry import Registry

    run, registry = the_run(args), Registry(args.work)
    prompts = run.data.prompts("test")[: args.prompts]
    pairs = load_preferences(load_config(args.config, args.set), "test")[:PAIRS]
    found: dict[str, list[dict[str, Any]]] = {"with_people": [], "without_people": []}
    chains = {
        "with_people": {row["version"]: registry.path(registry.get(row["version"])) for row in rounds},
        "without_people": without_people(run, len(rounds)),
    }
    start = measure(run, registry.path(registry.fallback()), prompts, "sft")
    rewards = [registry.get(name).reward for name in ("sft", *chains["with_people"])]
    for chain, policies in chains.items():
        before = start
        for name, policy in policies.items():
            now = measure(run, policy, prompts, f"{chain} {name}")
            compared = {"to_parent": against(now, before), "to_start": against(now, start)}
            row = {"version": name, "kept_update": kept_update(policy)}
            found[chain].append(row | now.numbers() | compared)
            before = now
    sets = {"judged": pairs, "sampled": start.pairs}
    known = {key: [accuracy(run, args.work / folder, rows) for folder in rewards if folder]
             for key, rows in sets.items()}  # fmt: skip
    counts = {"prompts": len(prompts), "held_out_pairs": {key: len(rows) for key, rows in sets.items()}}
    return found | {"start": start.numbers(), "accuracy": known} | counts


if __name__ == "__main__":
    main()
