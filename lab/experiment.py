"""What the experiments share: arguments, what they claim, results as JSON, figures, Weights & Biases.

@dataclass(frozen=True)
class Arguments(Options):
    runs: int = 2000
    "Independent runs."                              # the text after a field is its help

def main(arguments: Arguments) -> None:
    with Experiment("bandits", arguments) as experiment:
        ...
        experiment.log({"reward": 1.37}, step=1000)
        experiment.claim("ε = 0.1, mean reward", 1.37, within(1.37, 0.03), "Sutton and Barto 2018, figure 2.2")
        experiment.figure("rewards", lines(...))     # OUT/bandits-rewards.html and .png
        experiment.results["rewards"] = [...]        # with the rest: OUT/bandits.json

if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
"""

import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, TypeVar

import plotly.graph_objects as go
import tyro

from lab import drawing
from rlhf.command_line import tell
from rlhf.durable import replace_text
from rlhf.errors import UserError

PACKAGES = ("numpy", "torch", "gymnasium")


@dataclass(frozen=True)
class Options:
    """What every experiment takes."""

    out: Path = Path("models/lab")
    """Folder for results and figures."""
    seed: int = 0
    """Of everything random; experiments on several seeds count up from it."""
    workers: int | None = None
    """Processes side by side, where there are several runs. Default: one for each core."""
    wandb: str | None = None
    """Project of Weights & Biases to log to (pip install wandb). Default: none."""
    debug: bool = False
    """Show where an error came from."""
    beside: ClassVar[tuple[str, ...]] = ()
    """Names of an experiment's own arguments that change nothing of what is claimed."""

    def __post_init__(self) -> None:
        need(self.seed >= 0, "seed", "at least 0", self.seed)
        need(self.workers is None or self.workers >= 1, "workers", "at least 1", self.workers)

    def differing(self) -> list[str]:
        """What an experiment was given that is not as it would be by default, and changes what is claimed."""
        free = {field.name for field in fields(Options)} | set(self.beside)
        own = [field for field in fields(self) if field.name not in free]
        return [f"{field.name} = {value}" for field in own if (value := getattr(self, field.name)) != field.default]


def need(true: bool, argument: str, expected: str, found: object) -> None:
    """Refuse an argument. Raises `UserError` unless `true`."""
    if not true:
        name = argument.replace("_", "-")
        raise UserError(f"--{name} is out of range.", expected=expected, found=str(found), remedy=f"--{name} …")


Arguments = TypeVar("Arguments", bound=Options)


class Range(NamedTuple):
    """What a claim allows, both ends included."""

    low: float
    high: float

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"at least {self.low:g}"
        return f"at most {self.high:g}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g}"


def within(value: float, tolerance: float) -> Range:
    """From `value - tolerance` to `value + tolerance`."""
    return Range(value - tolerance, value + tolerance)


def at_least(value: float) -> Range:
    return Range(value, math.inf)


def at_most(value: float) -> Range:
    return Range(-math.inf, value)


class Experiment:
    """One run of one experiment; its JSON is written when the block ends without an error.

    Args:
        name: of the files.
        arguments: kept with the results.
        module: that was started; default: the lab's of that name.

    Attributes:
        results: whatever JSON can hold.
    """

    def __init__(self, name: str, arguments: Options, module: str | None = None) -> None:
        self.name, self.arguments, self._module = name, arguments, module or f"lab.{name}"
        self.results: dict[str, Any] = {}
        self.claims: list[dict[str, Any]] = []
        self._began = time.perf_counter()
        self._wandb = _wandb(name, arguments) if arguments.wandb else None
        try:
            arguments.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"No results can be written to {arguments.out}.", expected="a folder",
                            found=error.strerror or str(error), remedy="choose another --out") from None  # fmt: skip

    def __enter__(self) -> "Experiment":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._wandb:
            self._wandb.finish(exit_code=0 if kind is None else 1)
        if kind is None:
            self._write()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send figures to Weights & Biases, where that was asked for."""
        if self._wandb:
            self._wandb.log(dict(values), step=step)

    def claim(self, what: str, measured: float, wanted: Range, source: str, published: str = "") -> bool:
        """Hold a figure against what it should be; whether it is.

        Args:
            what: in words.
            measured: here.
            wanted: what is allowed.
            source: of the published value.
            published: the value as it was published, where one was.
        """
        met = wanted.low <= measured <= wanted.high
        self.claims.append({"what": what, "measured": measured, "wanted": str(wanted), "met": met,
                            "published": published or "—", "source": source})  # fmt: skip
        return met

    def figure(self, name: str, figure: go.Figure, size: tuple[int, int] = drawing.SIZE) -> None:
        """Save a figure as OUT/<experiment>-<name>."""
        drawing.save(figure, self.arguments.out / f"{self.name}-{name}", size)

    def _write(self) -> None:
        path = self.arguments.out / f"{self.name}.json"
        whole = {
            "experiment": self.name, "command": shlex.join(["python", "-m", self._module, *sys.argv[1:]]),
            "arguments": asdict(self.arguments), "seconds": time.perf_counter() - self._began,
            "python": platform.python_version(), "packages": {name: version(name) for name in PACKAGES},
            "claims": self.claims, "results": self.results,
        }  # fmt: skip
        replace_text(path, json.dumps(whole, indent=1, default=_plain, ensure_ascii=False) + "\n")
        if self.claims and (differing := self.arguments.differing()):
            print(f"what is asked for belongs to other settings: here {', '.join(differing)}")
        for claim in self.claims:
            print(f"{'met' if claim['met'] else 'NOT MET':8}{claim['what']}: {claim['measured']:.4g}"
                  f" (asked for: {claim['wanted']})")  # fmt: skip
        print(f"results: {path}")


def command_line(main: Callable[[Arguments], None], arguments: type[Arguments], description: str) -> None:
    """Read the command line and run; a user's slip (`UserError`) ends in one message and exit code 2.

    Args:
        main: the experiment.
        arguments: a frozen dataclass; its `__post_init__` refuses what is out of range.
        description: for --help.
    """
    try:
        main(tyro.cli(arguments, prog=_started(), description=description))
    except KeyboardInterrupt:
        print("error: interrupted; files of finished experiments are whole", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `--help | head`: whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed goes nowhere
        sys.exit(141)  # as a shell says SIGPIPE
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(tell(error))


def _started() -> str | None:
    """The command as it is typed, for --help: `python -m` and the module, not the path of its file."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else None


def _plain(value: Any) -> Any:
    """What JSON does not know, as what it knows."""
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value.tolist()  # arrays and their scalars


def _wandb(name: str, arguments: Options) -> Any:
    try:
        import wandb
    except ModuleNotFoundError:
        raise UserError("--wandb needs a package that is not installed.", remedy="pip install wandb") from None
    return wandb.init(project=arguments.wandb, name=name, config=json.loads(json.dumps(asdict(arguments), default=str)))
