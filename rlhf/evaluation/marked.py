"""What a program measured, between two marks of a page; what else is written there stays.

into_page("| what | here |", Path("docs/results/lab.md"), "The lab, measured")
"""

from pathlib import Path

from rlhf.durable import replace_text

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def into_page(text: str, page: Path, title: str) -> str:
    """Put a text between the marks of a page, or make the page with a title; returns what was put there."""
    old = page.read_text(encoding="utf-8") if page.is_file() else f"# {title}\n\n{BEGIN}{END}\n"
    before, _, rest = old.partition(BEGIN)
    new = f"{BEGIN}\n\n{text}\n\n{END}"
    replace_text(page, before + new + rest.partition(END)[2])
    return new
