"""PPO under `kill -9`: at random and at every kind of change on disk; resumed, it ends like an unbroken run.

SOAK=1 python -m pytest -s tests/phases/test_kills.py        # in every variant, at every kind of change
"""

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.phases.helpers import metrics
from tests.phases.killing import Killable, changes
from tests.phases.test_resume import arguments, make_world, numbers

SOAK = bool(os.environ.get("SOAK"))
KILLS = 40 if SOAK else 20
MERGED = "rlhf_gpt_neo_model/model.safetensors"
VARIANTS = {
    "lora": (["lora.phases=[reward,ppo]"], "ppo/adapter_model.safetensors"),
    "full": (["lora.phases=[reward]"], "ppo/model.safetensors"),
    "critic": (["lora.phases=[reward,ppo]", "ppo.value=adapter"], "ppo/adapter_model.safetensors"),
}
"""Name → settings, and the file with the policy."""

pytestmark = pytest.mark.slow


class World:
    """What PPO starts from, and for each variant a run that nothing has broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_world(folder)
        self.runs: dict[str, Path] = {}

    def fresh(self, name: str) -> Path:
        """A copy of what is there before PPO; the reward adapter names its base by path."""
        output = Path(shutil.copytree(self.folder / "before-ppo", self.folder / name))
        adapter = output / "reward" / "adapter_config.json"
        adapter.write_text(adapter.read_text().replace(str(self.folder / "before-ppo"), str(output)))
        return output

    def start(self, variant: str, output: Path, *more: str, before: int | str | None = None) -> Killable:
        options = ["--set", *VARIANTS[variant][0], *more]
        return Killable(arguments(self.folder, "ppo", output, *options), output, before)

    def unbroken(self, variant: str) -> Path:
        if variant not in self.runs:
            self.runs[variant] = self.fresh(f"unbroken-{variant}")
            self.start(variant, self.runs[variant]).finish()
        return self.runs[variant]

    def finish(self, variant: str, broken: Path) -> None:
        """Resume to the end: everything must be as the unbroken run has left it, and nothing beside it."""
        self.start(variant, broken, "--resume").finish()
        unbroken = self.unbroken(variant)
        for name in (VARIANTS[variant][1], "ppo/value_head.safetensors", MERGED):
            assert (broken / name).read_bytes() == (unbroken / name).read_bytes(), name
        assert numbers(broken / "ppo") == numbers(unbroken / "ppo")
        assert metrics(broken / "ppo")[-1]["best/update"] == metrics(unbroken / "ppo")[-1]["best/update"]
        for folder in ("", "training/ppo"):
            left = [sorted(path.name for path in (run / folder).iterdir()) for run in (broken, unbroken)]
            assert left[0] == left[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("kills"))


def at_any_time(start: Callable[..., Killable], output: Path, dice: random.Random) -> bool:
    """Up to half a second after something is logged: in an update, an evaluation, a checkpoint, while publishing …"""
    log = output / "training" / "ppo" / "metrics.jsonl"
    size = log.stat().st_size if log.is_file() else 0
    return start().kill_when(lambda: log.is_file() and log.stat().st_size > size, dice.uniform(0, 0.5))


def inside_a_checkpoint(start: Callable[..., Killable], output: Path, dice: random.Random) -> bool:
    """While one of its files is written, by whatever library."""
    aside, files = output / "training" / "ppo" / ".checkpoint.partial", dice.randrange(1, 8)
    return start().kill_when(lambda: len(list(aside.glob("*"))) >= files)


def before_a_change(start: Callable[..., Killable], output: Path, dice: random.Random) -> bool:
    """Right before a file is opened, renamed or deleted."""
    return start(before=dice.randrange(30)).wait() == -signal.SIGKILL


@pytest.mark.parametrize("variant", VARIANTS if SOAK else ["lora"])
def test_killed_again_and_again_it_ends_like_an_unbroken_run(world, variant):
    dice = random.Random()
    output, kills = world.fresh(f"random-{variant}"), Counter()

    def start(before=None):
        return world.start(variant, output, "--resume", before=before)

    for _ in range(3 * KILLS):
        way = dice.choice([at_any_time, inside_a_checkpoint, before_a_change])
        kills[way.__name__] += way(start, output, dice)
        if kills.total() == KILLS:
            break
    world.finish(variant, output)
    print(f"\n{variant}: {dict(kills)}; {(output / 'log.txt').read_text().count('resuming ppo')} times resumed")
    assert kills.total() == KILLS


@pytest.mark.parametrize("variant", VARIANTS if SOAK else ["lora"])
def test_killed_before_each_kind_of_change_it_ends_like_an_unbroken_run(world, variant):
    points = list(dict.fromkeys(changes(world.unbroken(variant))))
    assert {
        "os.rename training/ppo/.checkpoint.partial training/ppo/checkpoint-N",
        "os.rename training/ppo/checkpoint-N training/ppo/.discarded",
        "os.rename .ppo.partial ppo",
        "os.rename .rlhf_gpt_neo_model.partial rlhf_gpt_neo_model",
    } < set(points)
    if not SOAK:
        points = [point for point in points if point.startswith("os.re")]
    output = world.fresh(f"changes-{variant}")
    for point in points:
        assert world.start(variant, output, "--resume", before=point).wait() == -signal.SIGKILL, point
    world.finish(variant, output)
    replaced = [f"os.rename {name} .{name}.old" for name in ("ppo", "rlhf_gpt_neo_model")]
    replaced += ["os.rename .ppo.partial ppo", "os.rmdir .ppo.old"]
    for point in replaced:  # where the older result gives way to the new one
        assert world.start(variant, output, "--resume", before=point).wait() == -signal.SIGKILL, point
    world.finish(variant, output)
    print(f"\n{variant}: {len(points) + len(replaced)} kills, before " + ", ".join(points + replaced))
