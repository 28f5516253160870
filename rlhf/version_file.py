"""What stands in the registry of versions: `Version`, and the file that is refused where it is not ours.

found = parse(text, file)
found.versions, found.history
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ConfigDict, ValidationError

from rlhf.errors import UserError, nearest
from rlhf.section import Section

State = Literal["candidate", "live", "retired"]
"""Waits to be judged, as the challenger of the live version; answers; neither, but can be promoted again."""

FORMAT: Final = "rlhf-versions"
SCHEMA = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Version:
    """A model that can answer, and where it comes from."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    folder: str
    """A whole model or an adapter; relative to the run folder."""
    reward: str | None = None
    """The reward model that it was trained for; relative to the run folder."""
    parent: str | None = None
    """The version that it was trained from."""
    state: State = "candidate"
    created: str = ""
    """ISO 8601, UTC."""
    data: dict[str, Any] = field(default_factory=dict)
    """What it has learned from: pairs by kind, how many were held out or replayed, what was left out."""
    config: str | None = None
    """Its configuration file; relative to the run folder."""
    metrics: dict[str, float] = field(default_factory=dict)
    """How it did on held-out data."""


class VersionFile(Section):
    """What stands in the file."""

    format: Literal["rlhf-versions"]
    schema_number: int
    versions: list[Version]
    history: list[str]
    """Names of the versions that have been live, the one that is live now at the end."""


def parse(text: str, file: Path) -> VersionFile:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise damaged(file, f"not JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise damaged(file, "a file of another kind")
    if values.get("schema_number") != SCHEMA:
        raise UserError(f"{file} was written by another release of this program.", expected=f"schema {SCHEMA}",
                        found=f"schema {values.get('schema_number')!r}", remedy="use that release")  # fmt: skip
    try:
        found = VersionFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise damaged(file, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    check(found, file)
    return found


def check(found: VersionFile, file: Path) -> None:
    """Refuse what no change of ours leaves: bad or equal names, none or two versions live, an untrue history."""
    names = [version.name for version in found.versions]
    bad = [name for name in names if not NAME.fullmatch(name)]
    live = [version.name for version in found.versions if version.state == "live"]
    why = ""
    if bad:
        why = f"the name {bad[0]!r:.80}"
    elif len(set(names)) < len(names):
        why = "two versions of one name"
    elif len(live) != 1:
        why = f"{len(live)} live versions"
    elif not set(found.history) <= set(names) or found.history[-1:] != live:
        why = "a history that does not end with the live version"
    if why:
        raise damaged(file, why)


def damaged(file: Path, found: str) -> UserError:
    return UserError(
        f"{file} is damaged, or no registry of versions.",
        expected="what --phase improve and --phase versions write",
        found=found,
        remedy="restore it from a copy; or move it away: sft and ppo are then listed anew, the folders stay",
    )


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UserError("This is no name for a version.", found=repr(name)[:90],
                        expected="up to 64 of a-z 0-9 . _ -, with a letter or digit first")  # fmt: skip


def named(found: VersionFile, name: str) -> Version:
    for version in found.versions:
        if version.name == name:
            return version
    names = [version.name for version in found.versions]
    raise UserError(f"There is no version {name!r:.80}.", remedy=nearest(name, names) if names else "train one first")
