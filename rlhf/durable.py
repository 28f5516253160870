"""Files and folders that a kill, or a loss of power, leaves whole or not at all.

flush(aside)                      # all of it is on the disk …
aside.rename(target)              # … before its name says so
replace_text(path, text)          # the old text or the new, nothing between
discard(folder)                   # gone in one step: what is still there is whole
"""

import os
import shutil
from pathlib import Path


def flush(folder: Path) -> None:
    """Wait until the files of a folder, and their names, are on the disk."""
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def replace_text(path: Path, text: str) -> None:
    """Write a text aside and put it in the place of the older one in one step."""
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text(text, encoding="utf-8")
    _flush(aside)
    aside.replace(path)


def discard(folder: Path) -> None:
    """Rename a folder, if it is there, and then delete it: a kill on the way leaves none that lacks some files."""
    aside = folder.with_name(".discarded")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Delete what a kill has left half-written or half-deleted in a folder: its hidden files."""
    for left in folder.glob(".*"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
