"""The command line of `main.py`: options, help, how an error is told. Light to import, so that --help is instant."""

import argparse
import sys
from typing import NoReturn

from rlhf.errors import explain

HELP = """One RLHF loop on one consumer GPU: supervised fine-tuning, reward model, PPO, report.

  python main.py --phase all                                      the embedded default: no GPU, no downloads
  python main.py --phase sft --config configs/gpt-neo-125m.yaml   one phase; then reward, ppo and test
  python main.py --phase reward --resume                          go on after an interruption
  python main.py --phase ppo --set ppo.kl_coef=0.1                another value for any setting
  python main.py --phase sft --config configs/gpt-neo-125m.yaml --set data.demonstrations=my.jsonl --output models/mine
  accelerate launch --config_file configs/accelerate/one-gpu.yaml main.py --phase sft --config FILE

phases:
"""
EPILOG = """
A phase works from what the earlier ones left in DIR; if that is missing, it names the command that makes it.
Every setting is described in rlhf/config.py. The sections base, sft, reward and ppo also take every key of
transformers' TrainingArguments and TRL's SFTConfig, RewardConfig and PPOConfig. DIR/<phase>/config.yaml holds what
was used. README.md leads through the phases on a GPU and your own data; ARCHITECTURE.md says where things are.

exit codes: 0 done; 2 something you can put right; 130 Ctrl-C; 1 a fault in the program (--debug shows where)
"""


class Parser(argparse.ArgumentParser):
    """Reports a bad command line in the form of every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n  to do: python main.py --help\n")


def parse_arguments(argv: list[str], phases: dict[str, str]) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: without the program's name.
        phases: name → what it does, for the help.

    Raises:
        SystemExit: code 0 after --help, code 2 (message on stderr) where an option is unknown, missing or incomplete.
    """
    parser = Parser(
        prog="main.py",
        description=HELP + "\n".join(f"  {name:10}{text}" for name, text in phases.items()),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="what a phase is to do, such as: versions promote NAME"
    )
    parser.add_argument("--phase", required=True, metavar="PHASE", help="what to run, see above")
    parser.add_argument(
        "--config", default="configs/tiny.yaml", metavar="FILE", help="YAML file (default: %(default)s)"
    )
    parser.add_argument("--output", metavar="DIR", help="folder of results (default: models/<name of the config>)")
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="set settings, the values in YAML; may be repeated",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint; finished phases stay")
    parser.add_argument("--prompts", metavar="FILE", help="chat: reply to each prompt of a file, in batches")
    parser.add_argument("--out", metavar="FILE", help="chat: where those replies go")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def tell(error: BaseException) -> int:
    """Print what ended the run as one message on stderr; returns the exit code."""
    code, message = explain(error)
    tqdm = sys.modules.get("tqdm")
    if tqdm and tqdm.tqdm._instances:
        print(file=sys.stderr)  # a progress bar stands on the line
    print(f"error: {message}", file=sys.stderr)
    return code
