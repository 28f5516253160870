"""The tables of `benchmarks.gpu_memory`, and what of its goals they reach."""

from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]
GIB = 2**30
GOALS = {"2.7b": 8.0, "1.3b": 5.0, "125m": 2.0}
"""Model → the memory, in GiB, in which its PPO is meant to run in 8 bits."""
ON_A_CPU = (
    "ON A CPU: nothing was capped, and the peak is resident memory of the whole process. These numbers say that the "
    "script works, and nothing about a GPU"
)


def markdown(result: Row) -> str:
    """The rows as tables, and which goals they reach."""
    rows, settings, about = result["rows"], result["settings"], result["machine"]
    measured = f"on {about['gpu']}, torch {about['torch']}, memory capped" if about["gpu"] else ON_A_CPU
    lines = [
        "# PPO on one GPU", "", f"Measured by `python -m benchmarks.gpu_memory` {measured}. Prompts of "
        f"{settings['prompt']} tokens, responses of {settings['response']}, {settings['batch']} episodes an update, "
        f"{settings['updates']} updates counted. GiB is 2³⁰ bytes. The "
        "prediction counts 0.6 GiB for the CUDA context and 6% for the allocator's slack; the peak, of tensors, does "
        "not.", "",
        "| model | card, GiB | who | precision | micro-batch | sampled at a time | predicted, GiB | peak, GiB "
        "| reserved, GiB | episodes/s | sampling, scoring, update, s |",
        "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]  # fmt: skip
    lines += [_line(r) for r in rows if r["role"] != "decode"]
    decoded = [r for r in rows if r["role"] == "decode"]
    if decoded:
        lines += ["", "| model | precision | our decoding, tokens/s | `generate`, tokens/s | times |",
                  "| --- | --- | ---: | ---: | ---: |"]  # fmt: skip
        lines += [_decoding_line(r) for r in decoded]
    return "\n".join([*lines, "", *goals(rows)]) + "\n"


def _line(r: Row) -> str:
    who = {"ours": "this project", "stock": "stock TRL"}[r["role"]]
    start = f"| {r['model']} | {r['card']:g} | {who} | {r['precision']} |"
    if not r.get("fits"):
        return f"{start} does not fit | | | | | | |"
    optional = [
        f"{r[key]:.2f}" if r.get(key) is not None else "" for key in ("predicted_gib", "peak_gib", "reserved_gib")
    ]
    seconds = ", ".join(f"{value:.1f}" for value in r.get("seconds", {}).values())
    sizes = f"{r['micro_batch']} | {r.get('rollout_batch', '')}"
    return f"{start} {sizes} | {' | '.join(optional)} | {r['episodes_per_s']:.3f} | {seconds} |"


def _decoding_line(r: Row) -> str:
    start = f"| {r['model']} | {r['precision']} |"
    if not r["fits"]:
        return f"{start} does not fit | | |"
    return f"{start} {r['ours']:.0f} | {r['generate']:.0f} | {r['ours'] / r['generate']:.1f} |"


def goals(rows: list[Row]) -> list[str]:
    """What is to be reached, and whether these rows do."""
    return [*_memory_goals(rows), *_speed_goals(rows), *_decoding_goals(rows)]


def _memory_goals(rows: list[Row]) -> Iterator[str]:
    for r in rows:
        if (r["role"], r["precision"]) == ("ours", "8bit") and GOALS.get(r["model"]) == r["card"]:
            found = f"reached (peak {r['peak_gib']:.2f} GiB)" if r["fits"] else "MISSED (does not fit)"
            yield f"- {r['model']} in 8 bits within {r['card']:g} GiB: {found}."


def _speed_goals(rows: list[Row]) -> Iterator[str]:
    stock = {(r["model"], r["card"]): r for r in rows if r["role"] == "stock" and r["fits"]}
    for r in rows:
        other = stock.get((r["model"], r["card"]))
        if r["role"] == "ours" and r["fits"] and other:
            times = r["episodes_per_s"] / other["episodes_per_s"]
            found = f"{times:.1f} times the stock trainer's episodes/s ({_met(times, 3)})"
            yield f"- {r['model']}, {r['card']:g} GiB, {r['precision']}: {found}."


def _decoding_goals(rows: list[Row]) -> Iterator[str]:
    for r in rows:
        if (r["role"], r["precision"]) == ("decode", "8bit") and r["fits"]:
            times = r["ours"] / r["generate"]
            yield f"- {r['model']}, 8 bits: decoding {times:.1f} times as fast as `generate` ({_met(times, 5)})."


def _met(times: float, goal: float) -> str:
    return f"goal {goal:g}: {'reached' if times >= goal else 'MISSED'}"
