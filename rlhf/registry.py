"""The versions of a run: which models there are, where each comes from, and which one answers.

    registry = Registry(Path("models/tiny"))
    registry.live().name                      # "ppo"
    registry.promote("v1")                    # v1 is live, ppo retired
    registry.rollback()                       # ppo is live again

All of it is one file, `DIR/versions/registry.json`, which each change replaces in one step under a lock: two processes
may change it at a time, and one that is killed leaves the file as it was before or as it should be. Before the first
change there is no file, and the versions are what the phases have left: `sft`, and `ppo`, which is live where it is
there. What a phase leaves later is listed, too, as retired until it is promoted.
"""

import fcntl
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from rlhf.durable import replace_text
from rlhf.errors import UserError
from rlhf.version_file import (
    FORMAT,
    NAME,
    SCHEMA,
    State,
    Version,
    VersionFile,
    check,
    check_name,
    damaged,
    named,
    parse,
)

__all__ = ["NAME", "Registry", "State", "Version"]

FOLDER, FILE, LOCK, MAKING = "versions", "registry.json", ".lock", ".making"
FALLBACK = "sft"
RESULTS = (FALLBACK, "ppo")
"""Results of the phases that are versions without being registered, in the order in which they are made."""
REWARD = "reward"


class Registry:
    """The versions of a run folder; safe to use from several processes and threads.

    Args:
        run_folder: DIR, as `--output` gives it.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = Path(run_folder)
        self.file = self.run_folder / FOLDER / FILE

    def versions(self) -> list[Version]:
        """All of them, oldest first. Raises `UserError` where the file is damaged or no registry of ours."""
        return self._read().versions

    def get(self, name: str) -> Version:
        """The version of this name. Raises `UserError` with the nearest one where there is none."""
        return named(self._read(), name)

    def live(self) -> Version:
        """The version that answers. Raises `UserError` where the run has none yet."""
        found = [version for version in self._read().versions if version.state == "live"]
        if not found:
            raise UserError(
                f"{self.run_folder} holds no version that could answer.",
                expected=f"a result of phase {' or '.join(RESULTS)}",
                remedy="check --output; or run: python main.py --phase all, with the same --config and --output",
            )
        return found[0]

    def candidates(self) -> list[Version]:
        """The challengers, oldest first."""
        return [version for version in self._read().versions if version.state == "candidate"]

    def fallback(self) -> Version:
        """The SFT version, which answers where a challenger misbehaves. Raises `UserError` where there is none."""
        return self.get(FALLBACK)

    def path(self, version: Version) -> Path:
        """Where a version's model is. Raises `UserError` for a folder outside of the run folder."""
        return self._inside(version.folder)

    def reward_path(self, version: Version) -> Path | None:
        """Where its reward model is; None where it has none."""
        return self._inside(version.reward) if version.reward else None

    def stamp(self) -> tuple[Any, ...]:
        """Something that differs after each change; costs a look at the file's entry, not at the file."""
        try:
            entry = self.file.stat()
            changed: tuple[Any, ...] = (entry.st_ino, entry.st_mtime_ns, entry.st_size)
        except FileNotFoundError:
            changed = ()
        return (*changed, *((self.run_folder / name).is_dir() for name in (*RESULTS, REWARD)))

    def last_name(self) -> str | None:
        """Of v1, v2, … the last that is registered or has something in a folder; None where there is none."""
        begun = (self.run_folder / FOLDER).glob("v*/[!.]*")  # hidden is what a kill has left half-written
        folders = [path.parent.name for path in begun]
        names = [*(version.name for version in self._read().versions), *folders]
        numbers = [int(name[1:]) for name in names if re.fullmatch(r"v[0-9]{1,9}", name)]
        return f"v{max(numbers)}" if numbers else None

    def next_name(self) -> str:
        """The name after the last."""
        return f"v{int((self.last_name() or 'v0')[1:]) + 1}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While a version is made: nobody else makes one here. Raises `UserError` where another process does."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with (self.file.parent / MAKING).open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"Another process is making a version in {self.run_folder}.",
                                remedy="wait until it has ended, or choose another --output") from None  # fmt: skip
            yield

    def register(self, version: Version, *, alone: bool = False) -> Version:
        """Add a version whose files are in place, as a candidate.

        Args:
            version: its state is set here, and its time where it has none.
            alone: retire the other candidates in the same step.

        Returns:
            The version that is live in that step: whose challenger it is.

        Raises:
            UserError: a bad or taken name, an unknown parent, or no whole model in its folder.
        """
        check_name(version.name)
        new = replace(version, state="candidate", created=version.created or _now())
        self._check_model(new)

        def add(found: VersionFile) -> VersionFile:
            if any(old.name == new.name for old in found.versions):
                raise UserError(f"There is a version {new.name!r} already.", remedy="choose another name")
            if new.parent is not None:
                named(found, new.parent)
            others = [_retired(old) if alone and old.state == "candidate" else old for old in found.versions]
            return found.model_copy(update={"versions": [*others, new]})

        return self._change(add)

    def promote(self, name: str) -> Version:
        """Make a version the live one; the former live version is retired.

        Raises:
            UserError: no such version, or no whole model in its folder.
        """
        return self._change(lambda found: self._with_live(found, name, [*found.history, name]))

    def rollback(self, *, of: str | None = None) -> Version:
        """Make the version live again that was so before; the live one is retired.

        Args:
            of: only while this one is live: somebody else may have rolled it back in the meantime.

        Raises:
            UserError: none was, there is no whole model in its folder, or another version than `of` is live.
        """

        def back(found: VersionFile) -> VersionFile:
            if of is not None and found.history[-1:] != [of]:
                raise UserError(f"{of} is not live any more.", found=f"live: {', '.join(found.history[-1:])}")
            earlier = found.history[:-1]
            if not earlier:
                raise UserError("No version was live before this one.", found=f"live: {', '.join(found.history)}",
                                remedy="promote one by its name: --phase versions promote NAME")  # fmt: skip
            return self._with_live(found, earlier[-1], earlier)

        return self._change(back)

    def retire(self, name: str) -> Version:
        """Take a candidate out of the running. Raises `UserError` for the live version, or for none."""

        def out(found: VersionFile) -> VersionFile:
            if named(found, name).state == "live":
                raise UserError(f"{name} is live.", remedy="promote another version, or roll back")
            return _replaced(found, {name: "retired"})

        self._change(out)
        return self.get(name)

    # --- the file -----------------------------------------------------------------------------------------------

    def _change(self, change: Callable[[VersionFile], VersionFile]) -> Version:
        """Read, change and replace the file, alone; returns what is live then."""
        with self._lock():
            before = self._read()
            after = change(before)
            if after != before:
                check(after, self.file)
                values = after.model_dump() | {"versions": [asdict(version) for version in after.versions]}
                replace_text(self.file, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        live = [version for version in after.versions if version.state == "live"]
        return live[0] if live else after.versions[-1]

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Wait until no other process or thread changes the file; a killed one lets go by itself."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with (self.file.parent / LOCK).open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _read(self) -> VersionFile:
        """The file, or what it would begin with; and what phases have left since."""
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return self._seed()
        except UnicodeDecodeError as error:
            raise damaged(self.file, str(error)) from None
        found = parse(text, self.file)
        for version in found.versions:
            self._inside(version.folder)
            if version.reward:
                self._inside(version.reward)
        known = {version.name for version in found.versions}
        later = [_retired(version) for version in self._results() if version.name not in known]
        listed = [replace(v, reward=self._reward()) if v.name in RESULTS else v for v in found.versions]
        return found.model_copy(update={"versions": [*later, *listed]})

    def _reward(self) -> str | None:
        """The reward model of the results, which may be made after they are listed."""
        return REWARD if (self.run_folder / REWARD).is_dir() else None

    def _seed(self) -> VersionFile:
        versions = self._results()
        if not versions:
            return VersionFile(format=FORMAT, schema_number=SCHEMA, versions=[], history=[])
        versions[-1] = replace(versions[-1], state="live")
        return VersionFile(format=FORMAT, schema_number=SCHEMA, versions=versions, history=[versions[-1].name])

    def _results(self) -> list[Version]:
        """The results of phases as versions."""
        found: list[Version] = []
        for name in RESULTS:
            folder = self.run_folder / name
            if folder.is_dir():
                parent = found[-1].name if found else None
                made = datetime.fromtimestamp(folder.stat().st_mtime, UTC).isoformat(timespec="seconds")
                config = f"{name}/config.yaml" if (folder / "config.yaml").is_file() else None
                found.append(Version(name, name, self._reward(), parent, "retired", made, config=config))
        return found

    def _with_live(self, found: VersionFile, name: str, history: list[str]) -> VersionFile:
        version = named(found, name)
        if version.state == "live":
            return found
        self._check_model(version)
        states: dict[str, State] = {old.name: "retired" for old in found.versions if old.state == "live"}
        return _replaced(found, states | {name: "live"}).model_copy(update={"history": history})

    def _inside(self, folder: str) -> Path:
        root = self.run_folder.resolve()
        parts = PurePosixPath(folder)
        path = (root / folder).resolve() if "\0" not in folder else root
        if parts.is_absolute() or ".." in parts.parts or path == root or not path.is_relative_to(root):
            raise UserError(f"{self.file}: a version lies outside of the run folder.", expected=f"a folder in {root}",
                            found=repr(folder), remedy="restore the file from a copy")  # fmt: skip
        return self.run_folder / folder

    def _check_model(self, version: Version) -> None:
        """Refuse a folder that no model could be loaded from: the version that is live stays so."""
        folder = self.path(version)
        why = _why_not_whole(folder)
        if why:
            raise UserError(f"Version {version.name} has no whole model.", expected=f"a saved model in {folder}",
                            found=why, remedy="promote another version, or make it anew: --phase improve")  # fmt: skip
        reward = self.reward_path(version)
        if reward and not reward.is_dir():
            raise UserError(f"The reward model of version {version.name} is not there.", expected=str(reward))


def _why_not_whole(folder: Path) -> str:
    """What keeps a model's folder from being loaded, as far as its files tell; empty if nothing does."""
    if not folder.is_dir():
        return f"{folder} is not there"
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return "neither config.json nor adapter_config.json"
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        return "no weights (*.safetensors)"
    for path in weights:
        try:
            with safe_open(path, "numpy"):  # reads the header, and whether the file is as long as it says
                pass
        except (OSError, SafetensorError) as error:
            return f"{path.name}: {error}"
    return ""


def _retired(version: Version) -> Version:
    return replace(version, state="retired")


def _replaced(found: VersionFile, states: dict[str, State]) -> VersionFile:
    versions = [replace(old, state=states.get(old.name, old.state)) for old in found.versions]
    return found.model_copy(update={"versions": versions})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
