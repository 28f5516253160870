"""What the lab reached beside what was published: a table from the results of all experiments.

python -m lab.report --results docs/results/lab --page docs/results/lab.md

The table stands between two marks of the page; what else is written there stays. Exits with 1 where a claim is not met.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rlhf.errors import UserError, explain
from rlhf.evaluation.marked import into_page


def read(folder: Path) -> list[dict[str, Any]]:
    """The results of the experiments in a folder.

    Raises:
        UserError: there are none.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise UserError(f"{folder} holds no results.", expected="*.json of the experiments", remedy="make lab")
    return found


def tables(results: list[dict[str, Any]]) -> str:
    """How long all took, and a section for each experiment: its command, its claims, and what is not claimed."""
    minutes = sum(result["seconds"] for result in results) / 60
    return "\n\n".join([f"The commands below took {minutes:.0f} minutes in all.", *map(_section, results)])


def _section(result: dict[str, Any]) -> str:
    lines = [f"## {result['experiment']}", "", f"    {result['command']}", "",
             f"Took {result['seconds']:.0f} s.", "",
             "| what | here | published | asked for | met | source |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for claim in result["claims"]:
        cells = [claim["what"], f"{claim['measured']:.4g}", claim["published"], claim["wanted"],
                 "yes" if claim["met"] else "**no**", claim["source"]]  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    unclaimed = {name: found for name, found in result["results"].items()
                 if isinstance(found, dict) and found.get("unclaimed")}  # fmt: skip
    for name, found in unclaimed.items():
        means = ", ".join(f"{mean:.4g}" for mean in found["means"])
        lines += ["", f"Not claimed: {name}, mean returns {means} ({found['unclaimed']})."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("docs/results/lab"))
    parser.add_argument("--page", type=Path, default=Path("docs/results/lab.md"))
    arguments = parser.parse_args()
    try:
        results = read(arguments.results)
    except UserError as error:
        code, message = explain(error)
        print(f"error: {message}", file=sys.stderr)
        sys.exit(code)
    into_page(tables(results), arguments.page, "The lab, measured")
    missed = [claim["what"] for result in results for claim in result["claims"] if not claim["met"]]
    count = sum(len(result["claims"]) for result in results)
    print(f"{arguments.page}: {count} claims, {len(missed)} not met", *missed, sep="\n  ")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
