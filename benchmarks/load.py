"""Many people at once: what the server loses, mixes up, refuses, and how long everybody waits.

python -m benchmarks.load --run models/tiny --clients 50 --seconds 60 --out load.json

Starts the real server on a copy of the run folder. Every prompt has a greedy reply of its own, which the server gives
when nobody else asks; under load each reply is held against that of its prompt. A reply that is another prompt's was
mixed up; one that is nobody's differs, as floating-point sums in batches may. Half of the clients come through /api, as
browsers do, and half through /v1. The guardrails' limit a person is set out of the way; that of streams is not.

Then: clients who leave in the middle, and whether anybody notices; and ten chats at once beside one.
Prints a table and exits with 1 where something was lost or mixed up.
"""

import argparse
import itertools
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.load_client import Address, Client, Said, Server
from benchmarks.processes import say, write_json

GREEDY: dict[str, Any] = {"temperature": 0}
UNLIMITED = "guardrails.requests_per_minute=1000000"
HEALTH_SECONDS = 0.5
"""Between two looks at /health."""
PLACES = (
    "France Germany Spain Italy Japan China India Brazil Canada Egypt Kenya Peru Chile Norway Sweden Poland".split()
)
THINGS = "hot big happy fast early rich strong light old full hard loud clean dry near safe".split()


def prompts() -> list[str]:
    """Questions as the classroom asks them; a model that knows them gives each its own reply."""
    sums = [f"What is {a} + {b}?" for a, b in itertools.product(range(1, 5), range(5, 9))]
    words = [f"What is the opposite of {thing}?" for thing in THINGS]
    return [f"What is the capital of {place}?" for place in PLACES] + words + sums


def references(client: Client, asked: Sequence[str], **settings: Any) -> dict[str, str]:
    """Prompt → its greedy reply, one after the other; of prompts with the same reply only the first."""
    found: dict[str, str] = {}
    for prompt in asked:
        text = client.complete(prompt, **GREEDY | settings).text
        if text and text not in found.values():
            found[prompt] = text
    return found


@dataclass
class Tally:
    """What clients saw."""

    said: list[Said] = field(default_factory=list)
    right: int = 0
    different: int = 0
    mixed_up: int = 0
    lost: list[str] = field(default_factory=list)
    """What went wrong with replies that never came."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, prompt: str, said: Said, known: dict[str, str]) -> None:
        with self.lock:
            self.said.append(said)
            if not said.finished:
                self.lost.append(f"{prompt}: broken off after {said.text!r}")
            elif said.text == known[prompt]:
                self.right += 1
            elif said.text in known.values():
                self.mixed_up += 1
            else:
                self.different += 1

    def lose(self, prompt: str, error: Exception) -> None:
        with self.lock:
            self.lost.append(f"{prompt}: {type(error).__name__}: {error}")


def hammer(
    address: Address, known: dict[str, str], clients: int, enough: Callable[[int], bool], **settings: Any
) -> Tally:
    """Let so many clients ask, one request after the other each, until `enough` of its own number of replies."""
    tally = Tally()

    def ask(number: int) -> None:
        client = Client(address, f"load-{number}")
        mine = itertools.islice(itertools.cycle(known), number % len(known), None)
        for done, prompt in enumerate(mine):
            if enough(done):
                break
            try:
                way = client.say if number % 2 else client.complete
                tally.add(prompt, way(prompt, **GREEDY | settings), known)
            except Exception as error:  # whatever it was, the reply never came
                tally.lose(prompt, error)
                client.close()
        client.close()

    together([partial(ask, number) for number in range(clients)])
    return tally


def together(tasks: Sequence[Callable[[], Any]]) -> float:
    """Run each in a thread of its own, from one moment on; seconds until the last is done."""
    gate = threading.Barrier(len(tasks) + 1)

    def run(task: Callable[[], Any]) -> None:
        gate.wait()
        task()

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


class Watch:
    """Looks at a server from aside, twice a second: /health, its memory, and its queue."""

    def __init__(self, address: Address, pid: int) -> None:
        self.address, self.process = address, psutil.Process(pid)
        self.health: list[float] = []
        self.resident: list[int] = []
        self.waiting: list[int] = []
        self.size = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        client = Client(self.address, "watch")
        while not self._over.wait(HEALTH_SECONDS):
            began = time.perf_counter()
            client.get("/health")
            self.health.append(time.perf_counter() - began)
            queue = client.get("/api/monitor")["queue"]
            self.waiting.append(queue["waiting"])
            self.size = queue["size"]
            self.resident.append(self.process.memory_info().rss)
        client.close()

    def growth(self) -> float | None:
        """Bytes between the middle of the second quarter of the time and that of the last; None if it was too short."""
        quarter = len(self.resident) // 4
        if not quarter:
            return None
        return statistics.median(self.resident[-quarter:]) - statistics.median(self.resident[quarter : 2 * quarter])


def leave(address: Address, known: dict[str, str], count: int, clients: int = 10, **settings: Any) -> dict[str, Any]:
    """Let clients leave, at once or after the first text; then ask, and wait until the engine has nothing to do."""
    asked = list(known)

    def go(number: int) -> None:
        client = Client(address, f"leaver-{number}")
        for turn in range(number, count, clients):
            client.abort(asked[turn % len(asked)], after_first_token=turn % 2 == 0)
        client.close()

    seconds = together([partial(go, number) for number in range(min(clients, count))])
    client = Client(address)
    said = client.complete(asked[0], **GREEDY | settings)
    until = time.monotonic() + 30
    while (busy := client.get("/api/monitor")["queue"])["active"] + busy["waiting"] and time.monotonic() < until:
        time.sleep(0.1)
    client.close()
    return {
        "aborts": count, "seconds": seconds, "then_right": said.finished and said.text == known[asked[0]],
        "left_behind": busy["active"] + busy["waiting"],
    }  # fmt: skip


def throughput(
    address: Address, known: dict[str, str], chats: int = 10, repeats: int = 5, **settings: Any
) -> dict[str, Any]:
    """Seconds of so many chats at once, beside the mean of each of them alone."""
    asked = [partial(_chat, address, prompt, settings) for prompt in list(known)[:chats]]
    alone, at_once = [], []
    for _ in range(repeats):
        alone.append(statistics.mean(together([chat]) for chat in asked))
        at_once.append(together(asked))
    one, all_of_them = statistics.median(alone), statistics.median(at_once)
    return {"chats": len(asked), "one_s": one, "all_s": all_of_them, "ratio": all_of_them / one}


def _chat(address: Address, prompt: str, settings: dict[str, Any]) -> None:
    client = Client(address)
    client.complete(prompt, **GREEDY | settings)
    client.close()


def summary(tally: Tally, watch: Watch, seconds: float) -> dict[str, Any]:
    """The figures of the hammering."""
    first = [said.first_token_seconds for said in tally.said if said.first_token_seconds is not None]
    tokens = sum(said.completion_tokens or 0 for said in tally.said)
    return {
        "seconds": seconds, "replies": len(tally.said), "right": tally.right, "different": tally.different,
        "mixed_up": tally.mixed_up, "lost": len(tally.lost), "first_losses": tally.lost[:5],
        "refused_and_retried": sum(said.refusals for said in tally.said),
        "replies_per_s": len(tally.said) / seconds, "tokens_per_s": tokens / seconds,
        "first_token_p50_s": _quantile(first, 0.5), "first_token_p95_s": _quantile(first, 0.95),
        "whole_p95_s": _quantile([said.seconds for said in tally.said], 0.95),
        "health_p95_s": _quantile(watch.health, 0.95), "health_looks": len(watch.health),
        "waiting_most": max(watch.waiting, default=0), "queue_size": watch.size,
        "resident_last": watch.resident[-1] if watch.resident else None, "resident_growth": watch.growth(),
    }  # fmt: skip


def _quantile(values: Sequence[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None


def table(found: dict[str, Any]) -> str:
    """The results as lines of a Markdown table."""
    load, aborts, speed = found["load"], found["aborts"], found["throughput"]
    mib = 2**20
    rows = [
        ("clients, seconds", f"{found['clients']}, {load['seconds']:.0f}", ""),
        ("replies", f"{load['replies']} ({load['replies_per_s']:.1f} a second)", ""),
        ("lost, mixed up", f"{load['lost']}, {load['mixed_up']}", "0, 0"),
        ("differ from the reply alone", f"{load['different']}", ""),
        ("refused for want of room, and tried again", f"{load['refused_and_retried']}", ""),
        ("longest queue", f"{load['waiting_most']} of {load['queue_size']}", "bounded"),
        ("first token, p50 and p95", f"{_ms(load['first_token_p50_s'])}, {_ms(load['first_token_p95_s'])}", ""),
        ("/health, p95", _ms(load["health_p95_s"]), "under 200 ms"),
        ("memory at the end, growth in the second half",
         f"{(load['resident_last'] or 0) / mib:.0f} MiB, {(load['resident_growth'] or 0) / mib:+.1f} MiB", "flat"),
        (f"{aborts['aborts']} clients who leave: the next is answered, left behind",
         f"{'yes' if aborts['then_right'] else 'no'}, {aborts['left_behind']}", "yes, 0"),
        (f"{speed['chats']} chats at once, times the time of one", f"{speed['ratio']:.2f}", "at most 2.5"),
    ]  # fmt: skip
    lines = ["| what | seen | asked for |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {seen} | {wanted} |" for what, seen, wanted in rows)])


def _ms(seconds: float | None) -> str:
    return "none" if seconds is None else f"{1000 * seconds:.0f} ms"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, on one server."""
    with Server(arguments.run, arguments.config, [UNLIMITED, *arguments.set]) as server:
        client = Client(server.address)
        known = references(client, prompts())
        say(f"{len(known)} prompts with a reply of their own")
        speed = throughput(server.address, known)
        until = time.monotonic() + arguments.seconds
        began = time.perf_counter()
        with Watch(server.address, server.pid) as watch:
            tally = hammer(server.address, known, arguments.clients, lambda done: time.monotonic() >= until)
        load = summary(tally, watch, time.perf_counter() - began)
        aborts = leave(server.address, known, arguments.aborts)
        client.close()
    return {"clients": arguments.clients, "prompts": len(known), "cores": os.cpu_count(), "load": load,
            "aborts": aborts, "throughput": speed}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="DIR of a run with something to serve")
    parser.add_argument("--config", type=Path, default=Path("configs/tiny.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--aborts", type=int, default=300)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    found = measure(arguments)
    if arguments.out:
        write_json(found, arguments.out)
    print(table(found))
    bad = found["load"]["lost"] or found["load"]["mixed_up"] or not found["aborts"]["then_right"]
    sys.exit(1 if bad or found["aborts"]["left_behind"] else 0)


if __name__ == "__main__":
    main()
