"""Conversations kept as JSON files in one folder, and never outside it.

    kept = ConversationFolder(run.folder / "conversations")
    kept.save("rome", transcript)          # NameTaken if there is one: nothing is replaced unasked
    transcript = kept.load("rome")

A file is written aside and renamed. A name is a plain file name: no folders, no hidden files, none that another
system reserves. Neither the folder nor a file may be a symbolic link, and both are opened so that none can be slipped
in between check and use.
"""

import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from rlhf.chat.terminal.transcript import Exchange, Transcript
from rlhf.errors import UserError

FORMAT = "rlhf-conversation"
VERSION = 1
ENDING = ".json"
LONGEST_NAME = 100
"""Characters; with four bytes each and the hidden name while it is written, still a name that file systems take."""
LONGEST_FILE = 16 * 2**20
"""Bytes of a file that is read."""
RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"
}
"""Devices on Windows, whatever ending they have."""
FORBIDDEN = '/\\:<>"|?*'
"""Separators and what Windows does not take."""


class NameTaken(UserError):
    """There is a conversation of this name already."""


class _Saved(BaseModel):
    """What a file holds."""

    format: Literal["rlhf-conversation"]
    format_version: int = Field(ge=1)
    system: str
    exchanges: tuple[Exchange, ...]


def file_name(name: str) -> str:
    """The name of the file for a conversation's name. Raises `UserError` where it is not a plain, harmless name."""
    plain = name.strip()
    stem = plain.partition(".")[0].rstrip().lower()
    reasons = (
        (not plain, "it is empty"),
        (len(plain) > LONGEST_NAME, f"it has {len(plain)} characters"),
        (not plain.isprintable(), "it has characters that cannot be printed"),
        (any(character in FORBIDDEN for character in plain), f"it has one of the characters {FORBIDDEN}"),
        (plain[:1] in (".", "~", "-"), f"it begins with {plain[:1]}"),
        (plain.endswith("."), "it ends with a dot"),
        (stem in RESERVED, f"{stem.upper()} is the name of a device"),
    )
    for bad, reason in reasons:
        if bad:
            raise UserError(
                "That is no name for a conversation.",
                expected=f"a file name without folders, at most {LONGEST_NAME} characters, such as: save rome",
                found=reason,
            )
    return plain if plain.lower().endswith(ENDING) else plain + ENDING


class ConversationFolder:
    """The conversations in a folder, which is made when the first is saved.

    All methods raise `UserError` for a bad name, and where a file or the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """What `load` takes, in alphabetical order."""
        if not self.folder.is_dir():
            return []
        with self._opened() as folder, os.scandir(folder) as entries:
            files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        return sorted(name.removesuffix(ENDING) for name in files if name.endswith(ENDING) and name[0] != ".")

    def save(self, name: str, transcript: Transcript, overwrite: bool = False) -> Path:
        """Write a conversation; returns its file.

        Raises:
            NameTaken: there is one of this name, and it may not be overwritten.
        """
        file = file_name(name)
        saved = {"format": FORMAT, "format_version": VERSION, "saved": datetime.now(UTC).isoformat(timespec="seconds")}
        text = json.dumps(saved | asdict(transcript), ensure_ascii=False, indent=1)
        with _told(f"The conversation cannot be saved as {self.folder / file}."):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._opened() as folder:
                _check_place(folder, file, overwrite)
                _write(folder, file, text.encode("utf-8", "backslashreplace"), overwrite)
        return self.folder / file

    def load(self, name: str) -> Transcript:
        """Read a conversation."""
        file = file_name(name)
        path = self.folder / file
        with _told(f"The conversation {path} cannot be read."):
            if not self.folder.is_dir():
                raise FileNotFoundError(errno.ENOENT, "no conversation was saved yet")
            with self._opened() as folder:
                content = _read(folder, file)
        return _parsed(content, path)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The folder itself, so that what is done in it is done there whatever its name points to by then."""
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise UserError(
                f"{self.folder} is no folder.",
                expected="a folder of its own, for conversations",
                found="a symbolic link" if self.folder.is_symlink() else "a file",
                remedy="move it away",
            ) from None
        try:
            yield folder
        finally:
            os.close(folder)


def _check_place(folder: int, file: str, overwrite: bool) -> None:
    try:
        there = os.stat(file, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(there):
        raise UserError(f"{file} is there, and no plain file.", remedy="choose another name")
    if not overwrite:
        raise _taken(file)


def _taken(file: str) -> NameTaken:
    return NameTaken(f"There is a conversation {file} already.", remedy="choose another name")


def _write(folder: int, file: str, content: bytes, overwrite: bool) -> None:
    """Write aside, and give the file its name once it is whole."""
    aside = f".{secrets.token_hex(8)}.partial"
    try:
        opened = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        with open(opened, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if overwrite:
            os.replace(aside, file, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            _rename_to_new(folder, aside, file)
        os.fsync(folder)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside, dir_fd=folder)


def _rename_to_new(folder: int, aside: str, file: str) -> None:
    """A rename would replace a file that has come meanwhile; a second name would not."""
    try:
        os.link(aside, file, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        raise _taken(file) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        os.rename(aside, file, src_dir_fd=folder, dst_dir_fd=folder)  # a file system without second names


def _read(folder: int, file: str) -> bytes:
    opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)  # a pipe would wait forever
    with open(opened, "rb") as stream:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        content = stream.read(LONGEST_FILE + 1)
    if len(content) > LONGEST_FILE:
        raise OSError(errno.EFBIG, f"it has more than {LONGEST_FILE // 2**20} MiB")
    return content


def _parsed(content: bytes, path: Path) -> Transcript:
    try:
        saved = _Saved.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path} holds no conversation that was saved here.",
            expected=f"JSON with format {FORMAT}, system and exchanges",
            found=f"{where}: {first['msg']}" if where else first["msg"],
            remedy="load another one; the conversation at hand is as it was",
        ) from None
    if saved.format_version > VERSION:
        raise UserError(
            f"{path} was saved by a newer version of this program.",
            expected=f"format_version {VERSION}",
            found=str(saved.format_version),
        )
    return Transcript(saved.system, saved.exchanges)


@contextmanager
def _told(problem: str) -> Iterator[None]:
    """A file system's refusal as a message of ours."""
    try:
        yield
    except OSError as error:
        found = "a symbolic link" if error.errno == errno.ELOOP else (error.strerror or str(error))
        missing = isinstance(error, FileNotFoundError)
        raise UserError(problem, found=found, remedy="load alone lists what there is" if missing else "") from None
