"""The short summary that a run prints when it is done."""

from typing import Any

from rlhf.evaluation.words import KL, Table, headline, systems_table

SHOWN = ("system", "reward", "gold", "BLEU", KL, "length (tokens)", "ends (%)", "distinct-2", "n")


def summary_table(report: dict[str, Any]) -> str:
    """The systems as a table, the headline, and each warning, as plain text without a trailing newline."""
    table = systems_table(report)
    keep = [i for i, title in enumerate(table[0]) if title.split(", ")[0] in SHOWN]
    lines = aligned([[row[i] for i in keep] for row in table])
    lines += ["", *headline(report)]
    lines += [f"WARNING: {warning['text']}" for warning in report["warnings"]]
    return "\n".join(lines)


def aligned(table: Table) -> list[str]:
    """Lines with columns of one width, the first to the left, a rule under the header."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    sides = [str.ljust] + [str.rjust] * (len(widths) - 1)
    lines = ["  ".join(side(cell, w) for side, cell, w in zip(sides, row, widths, strict=True)) for row in table]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
