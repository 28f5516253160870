"""Does PPO here learn what TRL's stock trainer learns, and how much sooner? Or: which value function is better?

    python -m benchmarks.ppo_learning --run models/tiny-learning --seeds 0 1 2 --out FOLDER
    python -m benchmarks.ppo_learning --run models/tiny-adapter --seeds 0 1 2 --out FOLDER --sides adapter shared \
        --set lora.phases='[reward, ppo]'

Both sides start from the same results of base, sft and reward in RUN/seed-N, which are made where they are missing,
and train in processes of their own, in turns. docs/benchmarks.md says what is equal and what is not.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.processes import in_fresh_process, say, write_json
from rlhf.threads import choose_wait_policy

SIDES = ("ours", "trl", "shared", "detached", "adapter")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="holds seed-N/base, seed-N/sft, seed-N/reward")
    parser.add_argument("--out", type=Path, required=True, help="for learning.json, learning.png and what lies behind")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sides", nargs=2, choices=SIDES, default=["ours", "trl"], metavar=("JUDGED", "OTHER"),
                        help=f"of {', '.join(SIDES)} (ours trl)")  # fmt: skip
    parser.add_argument("--config", default="configs/tiny.yaml", help="as for main.py (%(default)s)")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="as for main.py")
    parser.add_argument("--every", type=int, default=2, help="updates from one point of the curve to the next (2)")
    parser.add_argument("--keep", action="store_true", help="measure nothing again that OUT has; draw all anew")
    return parser.parse_args()


def main() -> None:
    args = parse()
    choose_wait_policy()  # once, so that both sides wait alike
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        make_start(args, seed)
    records = [record_of(args, side, seed) for seed in args.seeds for side in args.sides]
    from benchmarks.learning_summary import draw, summarise
    from benchmarks.machine import described
    from rlhf.evaluation.style import save

    sides = tuple(args.sides)
    result = summarise(records, sides) | {"machine": described(), "runs": records}
    write_json(result, args.out / "learning.json")
    save(draw(records, sides), args.out / "learning.png")
    print(json.dumps(result["mean"], indent=2))


def measured_with(args: argparse.Namespace) -> dict[str, Any]:
    from rlhf.config import load_config

    ppo = load_config(args.config, args.set).ppo.model_dump(mode="json")
    return {"config": args.config, "set": args.set, "every": args.every, "ppo": ppo}


def make_start(args: argparse.Namespace, seed: int) -> None:
    """Base, SFT and reward model of a seed, as far as they are not there."""
    folder = args.run / f"seed-{seed}"
    given = ["--config", args.config, "--output", str(folder), "--set", *settings(args, seed)]
    from rlhf.config import load_config

    phases = ["base"] if load_config(args.config, args.set).model.shape else []
    for phase in [*phases, "sft", "reward"]:
        if not (folder / phase).is_dir():
            say(f"seed {seed}: {phase}")
            subprocess.run([sys.executable, "main.py", "--phase", phase, "--resume", *given], check=True)


def settings(args: argparse.Namespace, seed: int) -> list[str]:
    return [*args.set, f"seed={seed}"]


def record_of(args: argparse.Namespace, side: str, seed: int) -> dict[str, Any]:
    """One side of one seed, measured in a fresh process."""
    result = args.out / f"{side}-seed-{seed}.json"
    if args.keep and result.is_file():
        kept: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if kept.get("settings") != measured_with(args):
            sys.exit(f"{result} was measured with {kept.get('settings')}, not {measured_with(args)}: delete it")
        return kept
    say(f"seed {seed}: {side}")
    given = {"side": side, "config_file": args.config, "settings": settings(args, seed), "every": args.every}
    given |= {"start": str(args.run / f"seed-{seed}")}
    record = in_fresh_process("benchmarks.learning_sides:measure", given, result) | {"settings": measured_with(args)}
    write_json(record, result)
    last = record["curve"][-1]
    say(f"  {last['seconds']:.0f} s, reward {last['reward']:.3f}, gold {last['gold']}")
    return record


if __name__ == "__main__":
    main()
