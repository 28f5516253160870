"""`main` in real processes that end by SIGKILL: at any time, or right before the n-th change that they make on disk.

Each process is forked from a server that has torch and the phases imported, so that a start takes no time.
"""

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 240.0
"""Seconds until a process that should have done something is given up."""
CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir")
"""Audit events of Python that precede a change on disk; libraries not written in Python raise none."""

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["rlhf.phases.ppo", "dataloader", "tests.phases.killing"])


class Killable:
    """`main` with some arguments, in a process of its own; what it prints goes to `log.txt` in its output folder.

    Args:
        arguments: of the command line.
        output: the folder that `arguments` name, which exists.
        before: SIGKILL comes right before the change on disk of this number, counted from 0, or before the first one
            that reads so (see `changes`).
    """

    def __init__(self, arguments: list[str], output: Path, before: int | str | None = None) -> None:
        self.log = output / "log.txt"
        self.process: Any = _server.Process(target=_run, args=(arguments, output, before))
        self.process.start()

    def alive(self) -> bool:
        return bool(self.process.is_alive())

    def kill_when(self, due: Callable[[], bool], seconds: float = 0.0) -> bool:
        """SIGKILL so many seconds after it is `due`; false if the process has ended before."""
        deadline = time.monotonic() + LIMIT
        while not due():
            if not self.alive():
                return False
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        time.sleep(seconds)
        self.process.kill()
        return self.wait() == -signal.SIGKILL

    def wait(self) -> int:
        """Its exit code; -9 after a SIGKILL."""
        self.process.join(LIMIT)
        assert self.process.exitcode is not None, "it does not end"
        return int(self.process.exitcode)

    def finish(self) -> None:
        """Wait until it has done all that it was told."""
        assert self.wait() == 0, self.log.read_text()[-3000:]


def changes(output: Path) -> list[str]:
    """What a process that came to its end has changed on disk, in order: "os.rename OLD NEW", paths within `output`,
    numbers as N."""
    return (output / "changes.txt").read_text().splitlines()


def _run(arguments: list[str], output: Path, fatal: int | str | None) -> None:
    import torch

    import main

    log = os.open(output / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    made: list[str] = []

    def before(event: str, args: tuple[Any, ...]) -> None:
        change = _change(event, args, output) if event in CHANGES else None
        if change:
            if fatal in (len(made), change):
                os.kill(os.getpid(), signal.SIGKILL)
            made.append(change)

    sys.addaudithook(before)
    code = main.main(arguments)
    (output / "changes.txt").write_text("\n".join(made))
    sys.stdout.flush()
    os._exit(code)


def _change(event: str, args: tuple[Any, ...], output: Path) -> str | None:
    """The change in words if it is one of a result or checkpoint in `output`."""
    if event == "open" and not (isinstance(args[1], str) and set(args[1]) & set("wax+")):
        return None
    folder = args[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
    above = Path(os.readlink(f"/proc/self/fd/{folder}")) if isinstance(folder, int) and folder >= 0 else Path.cwd()
    names = args[: 2 if event == "os.rename" else 1]
    paths = [above / os.fsdecode(name) for name in names if not isinstance(name, int)]
    if not paths or not paths[0].is_relative_to(output) or paths[0].name in ("log.txt", "changes.txt"):
        return None
    return re.sub(r"\d+", "N", f"{event} {' '.join(str(path.relative_to(output)) for path in paths)}")
