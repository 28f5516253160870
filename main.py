"""One RLHF loop on one consumer GPU: supervised fine-tuning, reward model, PPO, report.

python main.py --phase all                                      every phase, on the embedded default
python main.py --phase sft --config configs/gpt-neo-125m.yaml
python main.py --help
"""

import importlib
import os
import shlex
import sys
from argparse import Namespace
from pathlib import Path

try:
    from rlhf.allocator import keep_freed_memory
    from rlhf.command_line import parse_arguments, tell
    from rlhf.errors import UserError, nearest
    from rlhf.interrupt import insistent_interrupt
    from rlhf.threads import choose_wait_policy
except ModuleNotFoundError as missing:
    print(
        f"error: {missing.name} is not installed here.\n  to do: make venv, then source .venv/bin/activate",
        file=sys.stderr,
    )
    sys.exit(2)

PHASES = {
    "base": ("rlhf.phases.base", "pretrain a from-scratch model on plain text; leaves DIR/base"),
    "sft": ("rlhf.phases.sft", "supervised fine-tuning on demonstrations; leaves DIR/sft"),
    "reward": ("rlhf.phases.reward", "reward model from preference pairs; leaves DIR/reward and DIR/rlhf_reward_model"),
    "ppo": ("rlhf.phases.ppo", "PPO against the reward model; leaves DIR/ppo and DIR/rlhf_gpt_neo_model"),
    "plan": ("rlhf.phases.plan", "predict what memory the phases will take, and what fits; nothing is trained"),
    "test": ("rlhf.phases.evaluate", "compare the systems that are there; leaves DIR/report (html, md, json)"),
    "chat": ("rlhf.phases.chat", "talk to a version in the terminal; --prompts FILE --out FILE: a batch"),
    "serve": ("rlhf.phases.serve", "chat, duels and a monitor in the browser, and an OpenAI-compatible API"),
    "feedback": ("rlhf.phases.feedback", "count people's judgements; export FOLDER, import FILE"),
    "improve": ("rlhf.phases.improve", "train reward model and policy on new judgements; registers a challenger"),
    "versions": ("rlhf.phases.versions", "list; promote NAME, rollback, compare A B"),
    "all": ("rlhf.phases.pipeline", "base to test in turn, and PPO without SFT for comparison"),
}
"""Phase → the module whose `run_phase(run)` does it, and its line in the help."""

ON_RESULTS = ("plan", "chat", "serve", "feedback", "versions")
"""Phases that train nothing, so that data and trainers need not be there."""

WITH_WORDS = ("feedback", "versions")
"""Phases that take words behind their name."""


def run(args: Namespace) -> None:
    """Load the configuration, refuse what can be refused at once, then look the phase up and run it."""
    if args.phase not in PHASES:
        raise UserError(f"Unknown phase {args.phase!r}.", expected=f"one of {', '.join(PHASES)}",
                        remedy=nearest(args.phase, PHASES))  # fmt: skip
    if args.words and args.phase not in WITH_WORDS:
        raise UserError(f"Phase {args.phase} takes no words behind it.", found=" ".join(args.words),
                        expected=f"options such as --config; words are for {', '.join(WITH_WORDS)}")  # fmt: skip
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from dataloader import DataRoom, check_sources
    from rlhf.config import load_config
    from rlhf.preflight import check_critic, check_launcher, check_model_name, check_output

    config = load_config(args.config, args.set)
    folder = Path(args.output or f"models/{Path(args.config).stem}")
    check_launcher(args.phase, config)
    check_output(folder)
    check_critic(config)
    if args.phase not in ON_RESULTS:
        check_sources(config)
    check_model_name(config)
    choose_wait_policy()
    keep_freed_memory()
    from rlhf.run import Given, Run  # loads torch, which takes seconds

    arguments = ["--config", args.config, "--output", str(folder)]
    told = [item for item in args.set if not item.startswith("serve.token=")]  # messages end up in logs
    arguments += [part for item in told for part in ("--set", item)]
    given = Given(tuple(args.words), args.prompts, args.out)
    job = Run(config, folder, DataRoom(config), args.resume, shlex.join(arguments), given)
    job.check()
    importlib.import_module(PHASES[args.phase][0]).run_phase(job)


def main(argv: list[str]) -> int:
    """Run the command line; exit code 0, 2 for what the user can put right, 130 for Ctrl-C, 1 for a fault of ours."""
    try:
        with insistent_interrupt():
            run(parse_arguments(argv, {name: text for name, (_, text) in PHASES.items()}))
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in argv:
            raise
        return tell(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
