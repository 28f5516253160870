"""The one exception for what a user can put right, and the words for everything else that ends a run."""

import difflib
import errno
from collections.abc import Iterable, Iterator

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""The disk, the user's quota or the largest file allowed is used up."""
FULL_TEXTS = (
    *(f"(os error {number})" for number in sorted(FULL)),  # safetensors
    *("PytorchStreamWriter failed", "inline_container.cc", "basic_ios::clear"),  # torch, which hides the reason
)
"""How the same reads from libraries that do not raise OSError."""
MEMORY_TEXTS = ("out of memory", "can't allocate memory")


class UserError(Exception):
    """Bad input or a missing prerequisite. `main.py` prints it on stderr and exits with code 2.

    Args:
        problem: one sentence saying what is wrong and where (file and line where there is one).
        expected: what would have been right.
        found: what was there instead.
        remedy: what to do, as a command where one exists.
    """

    def __init__(self, problem: str, *, expected: str = "", found: str = "", remedy: str = "") -> None:
        lines = [problem]
        lines += [
            f"  {label}: {text}"
            for label, text in (("expected", expected), ("found", found), ("to do", remedy))
            if text
        ]
        super().__init__("\n".join(lines))


def nearest(given: str, known: Iterable[str]) -> str:
    """A question that names the known word most like the given one; where none is like it, all of them."""
    words = list(known)
    close = difflib.get_close_matches(given, words, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(words))}"


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and one clear message for what ended a run.

    The code is 2 for what the user can put right, 130 for Ctrl-C, 1 for a fault of ours.
    """
    if isinstance(error, UserError):
        return 2, str(error)
    causes = list(_causes(error))
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):  # libraries wrap what interrupts their import
        return 130, (
            "interrupted; finished results are intact.\n  to do: the same command with --resume goes on from the last "
            "checkpoint"
        )
    if any(_is_disk_full(cause) for cause in causes):
        return 2, (
            f"The disk is full.\n  found: {_first_line(error)}\n  to do: free some space, or choose another --output; "
            "finished results are intact"
        )
    if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
        return 2, f"A file may not be read or written.\n  found: {error}\n  to do: check --output and its permissions"
    if isinstance(error, MemoryError) or any(text in str(error).lower() for text in MEMORY_TEXTS):
        return 2, (
            f"The memory is used up.\n  found: {_first_line(error)}\n  to do: lower per_device_train_batch_size (and "
            "raise gradient_accumulation_steps) or data.max_prompt_tokens, or set model.precision=8bit; "
            "--phase plan says what fits"
        )
    return 1, f"{type(error).__name__}: {error}\n  to do: this is a fault in the program; --debug shows where"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, or while handling."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_disk_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in FULL or any(text in str(error) for text in FULL_TEXTS)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
