"""How the threads of torch wait for each other: decided before torch is loaded, by what else the machine does."""

import os

import psutil

SECONDS, BUSY = 0.3, 0.5
"""How long the processors are watched, and how many of them may be in use on a machine that counts as quiet."""


def choose_wait_policy() -> None:
    """Set OMP_WAIT_POLICY, where the user has not.

    The operations of a small model take microseconds. Threads that spin between them are nearly twice as fast as
    threads that sleep, as long as each has a processor to itself; where it has not, they stall each other and are
    several times slower than one thread alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        busy = psutil.cpu_percent(interval=SECONDS) / 100 * (os.cpu_count() or 1) > BUSY
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE" if busy else "ACTIVE"
