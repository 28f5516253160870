"""A/B testing by simulation: false alarms, time to a decision, regret, drift, and the intervals of the standing.

    python -m benchmarks.ab_simulation --json FILE --plot FILE.png

Whole servers (`ab_process`) go through `Router` and `verdict`, one judgement after the other. The rest simulates many
runs at a time on what these are made of: `rlhf.bandits`, `rlhf.sequential_test`, `rlhf.bradley_terry`; tests hold its
shortcuts against `verdict` and `misbehaves`. Seeds are fixed, so that the figures come out the same again. Three
minutes on one core.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks import ab_process, ab_regret, ab_selection, ab_standing, ab_stopping
from benchmarks.processes import write_json
from rlhf.chat.ab_test import NOTICED, RIDGE, standings
from rlhf.evaluation.style import COLORS, PNG_DPI, STYLE, canvas

Values = dict[str, Any]
RUNS = 10_000
SEED = 20_250_101
NOTICES = (0.02, 0.05, NOTICED, 0.2, 0.4)
RATES = (0.02, 0.1, 0.3, 0.6, 0.9, 0.98)
GAPS = (0.0, 0.2)
DIFFERENCES = (0.03, 0.05, 0.1, 0.15, 0.2, 0.3)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"tests simulated for each row (default {RUNS})")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--plot", type=Path, help="write the picture there, as PNG")
    return parser.parse_args()


def main() -> None:
    options = parse()
    found = measure(options.runs)
    show(found)
    if options.json:
        write_json(found, options.json)
    if options.plot:
        with plt.rc_context(STYLE):
            draw(found).savefig(options.plot, dpi=PNG_DPI)


def measure(runs: int) -> Values:
    """All figures. A quarter of the runs for routing, a tenth for tournaments, a fortieth for servers, at least two."""
    routed, fought = max(2, runs // 4), max(2, runs // 10)
    parts: dict[str, Callable[[np.random.Generator], Any]] = {
        "stopping": lambda rng: _stopping(runs, rng),
        "first_look_at_once": lambda rng: _at_once(routed, rng),
        "by_difference": lambda rng: _by_difference(routed, rng),
        "dependent": lambda rng: ab_stopping.dependent(routed, rng),
        "adaptive": lambda rng: ab_stopping.adaptive(routed, rng),
        "regret": lambda rng: _regret(routed, rng),
        "swap": lambda rng: _swap(routed, rng),
        "coverage": lambda rng: _coverage(fought, rng),
        "ten_to_nothing": lambda rng: _ten_to_nothing(),
        "orders": lambda rng: ab_standing.orders(fought, rng),
        "fallback": lambda rng: ab_stopping.fallback(routed, rng),
        "process": lambda rng: {str(gap): ab_process.judged(gap, max(2, runs // 40), rng) for gap in GAPS},
        "selection": lambda rng: {str(gap): ab_selection.shares(gap, 10 * runs, rng) for gap in ab_selection.GAPS},
    }
    found = {name: part(np.random.default_rng((SEED, place))) for place, (name, part) in enumerate(parts.items())}
    return found | {"runs": runs, "seed": SEED}


def _stopping(runs: int, rng: np.random.Generator) -> Values:
    looks = range(ab_stopping.FIRST, ab_stopping.LAST + 1, ab_stopping.EVERY)
    return {
        name: ab_stopping.stopping(rates, NOTICES, looks, runs, rng)
        for name, rates in (("equal", (0.6, 0.6)), ("different", (0.6, 0.7)))
    }


def _at_once(runs: int, rng: np.random.Generator) -> Values:
    """False alarms with a look after every judgement, from the first one on, by the rate that both versions have."""
    looks = range(1, 1001)
    return {str(rate): ab_stopping.stopping((rate, rate), NOTICES[2:], looks, runs, rng) for rate in RATES}


def _by_difference(runs: int, rng: np.random.Generator) -> Values:
    looks = range(10, 10_001, 10)
    return {
        str(gap): ab_stopping.stopping((0.6, 0.6 + gap), NOTICES[1:4], looks, max(2, runs // 5), rng)
        for gap in DIFFERENCES
    }


def _regret(runs: int, rng: np.random.Generator) -> Values:
    return {
        f"{low}/{high}": {
            name: ab_regret.summary(ab_regret.regret(make, ab_regret.constant((low, high), 1000), runs, rng))
            for name, make in ab_regret.STATIONARY.items()
        }
        for low, high in ab_regret.PAIRS
    }


def _swap(runs: int, rng: np.random.Generator) -> Values:
    rates = ab_regret.swapped((0.4, 0.7), 2000)
    return {
        name: ab_regret.summary(ab_regret.regret(make, rates, runs, rng)) for name, make in ab_regret.CHANGING.items()
    }


def _coverage(runs: int, rng: np.random.Generator) -> list[Values]:
    return [
        {"versions": name, "duels": duels, "ridge": ridge}
        | ab_standing.coverage(np.array(strengths), duels, ridge, runs, rng)
        for name, strengths in ab_standing.TOURNAMENTS.items()
        for duels in ab_standing.DUELS
        for ridge in (0.1, RIDGE, 2.0)
    ]


def _ten_to_nothing() -> Values:
    winner, loser = standings([("winner", "loser", 1.0)] * 10)
    return {name: [s.low, s.strength, s.high] for name, s in (("winner", winner), ("loser", loser))}


# --- what is shown ----------------------------------------------------------------------------------------------------


def show(found: Values) -> None:
    """The figures as Markdown tables."""
    equal, different = found["stopping"]["equal"], found["stopping"]["different"]
    _table(
        ["test", "false positives", "power", "median stop", "third quartile"],
        [[name, f"{equal[name]['decided']:.2%}", f"{different[name]['decided']:.2%}", _whole(different[name]["median"]),
          _whole(different[name]["quartile_3"])] for name in equal],
    )  # fmt: skip
    _table(["rate of both", *found["first_look_at_once"]["0.6"]],
           [[rate, *(f"{t['decided']:.2%}" for t in tests.values())]
            for rate, tests in found["first_look_at_once"].items()])  # fmt: skip
    seen = [str(difference) for difference in NOTICES[1:4]]
    _table(["difference", *(f"made for {one}" for one in seen)],
           [[gap, *(f"{_whole(tests[one]['median'])} ({tests[one]['decided']:.0%})" for one in seen)]
            for gap, tests in found["by_difference"].items()])  # fmt: skip
    for part in ("dependent", "adaptive"):
        _table([part, "false positives"], [[name, f"{share:.2%}"] for name, share in found[part].items()])
    _table(["arms", *ab_regret.STATIONARY],
           [[pair, *(_regret_cell(row[name]) for name in row)] for pair, row in found["regret"].items()])  # fmt: skip
    _table(["after a swap", "regret"], [[name, _regret_cell(row)] for name, row in found["swap"].items()])
    kinds = list(found["coverage"][0]["intervals"])
    _table(["versions", "duels", "ridge", "error", *kinds],
           [[row["versions"], row["duels"], row["ridge"], f"{row['error']:.3f}",
             *(f"{i['coverage']:.1%} ({i['width']:.2f})" for i in row["intervals"].values())]
            for row in found["coverage"]])  # fmt: skip
    for part in ("ten_to_nothing", "orders"):
        _table([part, ""], [[name, np.round(value, 3)] for name, value in found[part].items()])
    for part in ("fallback", "process", "selection"):
        rows = found[part]
        columns = list(next(iter(rows.values())))
        _table([part, *columns], [[name, *(f"{row[c]:.4g}" for c in columns)] for name, row in rows.items()])


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _regret_cell(row: Values) -> str:
    return f"{row['regret']:.1f} ± {row['standard_error']:.1f}"


def _table(head: list[Any], rows: list[list[Any]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def draw(found: Values) -> Canvas:
    """What the mixing costs, regret over time, regret over a swap, and coverage of the intervals."""
    figure, grid = canvas(2, 2, (10.0, 7.2))
    _draw_mixing(grid[0][0], found)
    _draw_regret(grid[0][1], found["regret"]["0.6/0.7"], 1000, "Regret, versions at 0.6 and 0.7", list(COLORS.values()))
    names = ["Thompson", "Thompson, discount 0.99", "Thompson, window 200"]
    some = {name.removeprefix("Thompson, "): found["swap"][name] for name in names}
    _draw_regret(grid[1][0], some, 2000, "Regret of Thompson sampling, 0.4 and 0.7 swap", list(COLORS.values()))
    grid[1][0].axvline(1000, color="#888888", linestyle=":", linewidth=1.3)
    _draw_coverage(grid[1][1], found["coverage"])
    return figure


def _draw_mixing(axes: Axes, found: Values) -> None:
    for seen, color in zip(NOTICES[1:4], (COLORS["SO"], COLORS["SPP"], COLORS["RO"]), strict=True):
        points = [(float(gap), tests[str(seen)]["median"]) for gap, tests in found["by_difference"].items()]
        known = [(gap, median) for gap, median in points if median is not None]
        axes.plot(*zip(*known, strict=True), color=color, marker="o", markersize=4, label=f"made for {seen}")
    axes.set(title="When the test decides", xlabel="true difference from 0.6", ylabel="median judgements an arm")
    axes.set_yscale("log")
    axes.set_yticks([50, 100, 200, 500, 1000, 2000, 5000])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    axes.legend()


def _draw_regret(axes: Axes, rows: Values, steps: int, title: str, colors: list[str]) -> None:
    for (name, row), color in zip(rows.items(), colors, strict=False):
        axes.plot(np.linspace(1, steps, len(row["curve"])), row["curve"], color=color, label=name)
    axes.set(title=title, xlabel="conversations", ylabel="judgements lost, mean")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend()


def _draw_coverage(axes: Axes, rows: list[Values]) -> None:
    rows = [row for row in rows if row["ridge"] == RIDGE]
    kinds = {
        "plain, percentile": ("SO", "o"),
        "smoothed, percentile": ("RO", "^"),
        "smoothed, standard deviation": ("SPP", "D"),
    }
    for shift, (kind, (color, marker)) in zip((-0.15, 0.0, 0.15), kinds.items(), strict=True):
        values = [100 * row["intervals"][kind]["coverage"] for row in rows]
        axes.plot(
            np.arange(len(rows)) + shift, values, color=COLORS[color], marker=marker, linestyle="none", label=kind
        )
    axes.axhline(95, color="#888888", linestyle=":", linewidth=1.3)
    axes.set_xticks(range(len(rows)), [f"{row['versions'].split()[0]},\n{row['duels']}" for row in rows])
    axes.set(title="Intervals that hold the true strength", xlabel="versions, duels", ylabel="%")
    axes.legend()


if __name__ == "__main__":
    main()
