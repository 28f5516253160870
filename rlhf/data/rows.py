"""Reads rows, one at a time, from a JSON-lines file (plain or .gz), a folder, or the hub; every error names its row.

for row in read_rows(spec, hub_name="databricks/databricks-dolly-15k"):
    question = row.text("instruction")
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from rlhf.config import SourceSpec
from rlhf.errors import UserError

_MEND = "mend or remove the line; a file that is one JSON list: jq -c '.[]' file.json > file.jsonl"


@dataclass(frozen=True)
class Row:
    """One JSON object and where it stood."""

    where: str
    """File and line, or data set and row: how an error message names it."""
    values: Mapping[str, Any]

    def text(self, key: str, *, empty: bool = False) -> str:
        """The string under `key`, stripped. Raises `UserError` where it is missing, not a string, or empty."""
        if key not in self.values:
            raise UserError(f"{self.where}: no {key!r}.", expected=f"a string under {key!r}", found=self.keys())
        value = self.values[key]
        if not isinstance(value, str):
            raise UserError(f"{self.where}: bad {key!r}.", expected="a string", found=shorten(value))
        if not (value.strip() or empty):
            raise UserError(f"{self.where}: {key!r} is empty.", expected="text", remedy="fill it in or remove the row")
        return value.strip()

    def keys(self) -> str:
        """The row's keys, for an error message."""
        return f"the keys {', '.join(map(repr, self.values))}" if self.values else "an object without keys"


def label(spec: SourceSpec) -> str:
    """How records and reports name a source: its suite, its file without the endings, its hub name, or its source."""
    if spec.suite:
        return spec.suite
    if spec.path:
        return Path(spec.path).name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")
    return spec.name or spec.source


def read_rows(spec: SourceSpec, hub_name: str | None = None) -> Iterator[Row]:
    """The rows of `spec.path`, else of `spec.name` (a local path or a hub data set), else of `hub_name`.

    Raises:
        UserError: nothing to read from, or it cannot be read: missing, empty, truncated, not UTF-8, not JSON objects.
    """
    place = locate(spec, hub_name)
    return read_lines(place) if isinstance(place, Path) and place.is_file() else _table(str(place), spec)


def locate(spec: SourceSpec, hub_name: str | None = None) -> Path | str:
    """The file or folder that `read_rows` reads, or the hub name, checked to be there. Raises `UserError`."""
    place = spec.path or spec.name or hub_name
    if place is None:
        raise UserError(f"The source {spec.source!r} needs a file.", remedy="give it a path: in the configuration")
    path = Path(place).expanduser()
    if spec.path or path.exists():
        return path if path.exists() else _no_file(path)
    from rlhf.hub import reachable_or_cached  # slow to import, and not needed for a file

    return reachable_or_cached(place, "dataset")


def _no_file(path: Path) -> NoReturn:
    raise UserError(f"No data file {path}.", expected="a JSON-lines file, plain or .gz", remedy="check the path")


def read_lines(path: Path) -> Iterator[Row]:
    """The objects of a JSON-lines file, streamed. Raises `UserError` as `read_rows` does; blank lines are skipped."""
    if not path.is_file():
        _no_file(path)
    number, found = 0, False
    with _open(path) as lines:
        while line := _next_line(lines, path, number + 1):
            number += 1
            if line.strip():
                found = True
                yield Row(f"{path}, line {number}", _parse(line, f"{path}, line {number}"))
    if not found:
        raise UserError(f"{path} is empty.", expected="one JSON object a line", found="no rows")


def _table(place: str, spec: SourceSpec) -> Iterator[Row]:
    """The rows of a hub data set, or of a folder in any form that `datasets` reads."""
    import datasets

    split = spec.split or "train"
    try:
        table = datasets.load_dataset(place, split=split)
    except Exception as error:  # the library raises many unrelated types, all of them about this data set
        raise UserError(
            f"Cannot load the data set {place!r}, split {split!r}.",
            found=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            remedy="check name: and split:, or give a local file as path:",
        ) from None
    return (Row(f"{place}, row {number}", values) for number, values in enumerate(table, 1))


def _open(path: Path) -> BinaryIO:
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"  # by content: a renamed file still opens
        return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")
    except OSError as error:
        raise UserError(f"Cannot read {path}.", found=str(error)) from None


def _next_line(lines: BinaryIO, path: Path, number: int) -> bytes:
    try:
        return lines.readline()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}, line {number}: the compressed file is damaged.",
            expected="a complete gzip file",
            found=str(error),
            remedy="copy or download it again",
        ) from None
    except OSError as error:
        raise UserError(f"Cannot read {path}, line {number}.", found=str(error)) from None


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: not UTF-8.",
            expected="UTF-8 text",
            found=f"byte {line[error.start]:#04x} at column {error.start + 1}",
            remedy="convert the file: iconv -f ENCODING -t utf-8 (often latin1 or utf-16)",
        ) from None
    except (json.JSONDecodeError, RecursionError) as error:
        found = f"{error}: {shorten(line)}"
        raise UserError(f"{where}: not JSON.", expected="one JSON object a line", found=found, remedy=_MEND) from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: not a JSON object.", expected="one JSON object a line", found=shorten(values),
                        remedy=_MEND)  # fmt: skip
    return values


def shorten(value: object) -> str:
    """A value as it stands in an error message: at most 80 characters."""
    text = value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
