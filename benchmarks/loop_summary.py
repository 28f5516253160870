"""What the loop's JSON says, as a table and as a picture."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure as Canvas

from rlhf.evaluation import marked
from rlhf.evaluation.style import COLORS, SOFT, STYLE, canvas

Record = dict[str, Any]


def table(result: Record) -> str:
    """A row a version: what people did, and how it stands on held-out prompts."""
    lines = [
        "| version | votes: a side, tie, both bad | mistakes | pairs | gold | against its parent, 95% | greedy gold "
        "| against its parent, 95% | length "
        "| reward model right: judged pairs, SFT's samples | update kept | the same PPO without people: gold "
        "| update kept |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        _row("sft (start)", "", "", "", result["start"], None, _known(result, 0), " |"),
    ]
    for number, (round_, ours, alone) in enumerate(
        zip(result["rounds"], result["with_people"], result["without_people"], strict=True), start=1
    ):
        votes = round_["votes"]
        shown = f"{votes.get('left', 0) + votes.get('right', 0)}, {votes.get('tie', 0)}, {votes.get('both_bad', 0)}"
        pairs = f"{sum(round_['data']['pairs'].values())} + {round_['data']['held_out']} held out"
        other = f"{alone['gold']:.3f} {_interval(alone['to_parent']['gold'])} | {alone['kept_update']}"
        mistakes, known = str(votes.get("mistakes", 0)), _known(result, number)
        lines.append(_row(ours["version"], shown, mistakes, pairs, ours, ours, known, other))
    return "\n".join(lines)


def _known(result: Record, number: int) -> str:
    return ", ".join(f"{result['accuracy'][key][number]:.1%}" for key in ("judged", "sampled"))


def _row(
    name: str, votes: str, mistakes: str, pairs: str, numbers: Record, compared: Record | None, known: str, other: str
) -> str:
    gold, greedy = (_interval(compared["to_parent"][key]) if compared else "" for key in ("gold", "greedy"))
    kept = compared["kept_update"] if compared else ""
    cells = [name, votes, mistakes, pairs, f"{numbers['gold']:.3f}", gold, f"{numbers['greedy']:.3f}", greedy]
    return "| " + " | ".join([*cells, f"{numbers['length']:.1f}", known, f"{kept}", other]) + " |"


def _interval(paired: Record) -> str:
    return f"{paired['difference']:+.3f} [{paired['low']:+.3f}, {paired['high']:+.3f}]"


def in_words(result: Record) -> str:
    """Whether the bar is met: each version above its parent with an interval above zero."""
    lows = [row["to_parent"]["gold"]["low"] for row in result["with_people"]]
    last, alone = result["with_people"][-1], result["without_people"][-1]
    met = f"{sum(low > 0 for low in lows)} of {len(lows)} rounds end above their parent with an interval above zero"
    gain, without = last["to_start"]["gold"], alone["to_start"]["gold"]
    return (
        f"By gold, on {result['prompts']} held-out prompts: {met}. From the start: {_interval(gain)} with people, "
        f"{_interval(without)} by the same PPO on the first reward model alone."
    )


def into_page(result: Record, page: Path) -> str:
    """Put the table between the marks of a page, or make the page; returns what was put there."""
    return marked.into_page(f"{table(result)}\n\n{in_words(result)}", page, "The loop, measured")


def draw(result: Record) -> Canvas:
    """Gold over the rounds, with people and without; and what the reward model knows."""
    figure, axes = canvas(1, 2, (9.0, 3.6))
    with plt.rc_context(STYLE):
        rounds = range(len(result["with_people"]) + 1)
        chains = {"with_people": ("with people's judgements", COLORS["SPP"], "-"),
                  "without_people": ("same PPO, first reward model", SOFT, "--")}  # fmt: skip
        for chain, (label, color, line) in chains.items():
            points = [result["start"], *result[chain]]
            means = [point["gold"] for point in points]
            spread = [[abs(point["gold_ci95"][side] - point["gold"]) for point in points] for side in (0, 1)]
            axes[0, 0].errorbar(rounds, means, spread, label=label, color=color, linestyle=line, marker="o", capsize=3)
        axes[0, 0].set(title="Gold on held-out prompts", xlabel="round", ylabel="judge's score, 0 to 1")
        axes[0, 0].legend(loc="upper left")
        sets = {"judged": ("judged pairs of the data", COLORS["SO"]), "sampled": ("SFT's own samples", COLORS["RO"])}
        for key, (label, color) in sets.items():
            axes[0, 1].plot(rounds, result["accuracy"][key], color=color, marker="o", label=label)
        axes[0, 1].legend(loc="upper left")
        axes[0, 1].set(title="What the reward model gets right", xlabel="round", ylabel="share of held-out pairs")
        for axis in axes.flat:
            axis.set_xticks(list(rounds), ["start", *(str(n) for n in rounds[1:])])
    return figure
