"""Names of models, tokenizers and data sets: local path, hub, or the hub's cache, decided within seconds.

Call `reachable_or_cached(name, kind)` once before `from_pretrained(name)` or `load_dataset(name)`, and load what it
returns. The libraries' own retries take minutes on a machine without a network; one probe with a deadline does not.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from rlhf.errors import UserError

T = TypeVar("T")
Kind = Literal["model", "tokenizer", "dataset", "classifier", "embedder"]

PROBE_SECONDS = 6.0
"""Deadline of the one question to the hub, name resolution included (which no HTTP timeout covers)."""

_KEYS: dict[Kind, str] = {
    "model": "model.name",
    "tokenizer": "model.tokenizer",
    "dataset": "the source's path (in place of its name)",
    "classifier": "the reward's path",
    "embedder": "the path of the reward's embedder",
}


def reachable_or_cached(name: str, kind: Kind, *, timeout: float = PROBE_SECONDS) -> str:
    """The name or path to load `name` from, checked to be there.

    - A local path is made absolute (lest a library takes it for a hub name) and returned; the hub is not asked.
    - A name the hub knows is returned as it is.
    - Hub unreachable (or HF_HUB_OFFLINE set) and the name cached: this process goes offline for good, so that no
      later call waits for the hub, and the name (or the folder of its cached snapshot) is returned.

    Args:
        name: hub name (`owner/name`) or local path.
        kind: what it is; the message names the setting that takes a path.
        timeout: seconds to wait for the hub.

    Raises:
        UserError: no such path, the hub does not have the name or does not hand it out, or it is unreachable
            and nothing is cached. Always within `timeout` and about one second.
    """
    if Path(name).expanduser().exists():
        return str(Path(name).expanduser().absolute())
    _refuse_impossible_name(name, kind)
    if constants.is_offline_mode():
        failure: Exception | None = ConnectionError("offline mode is on (HF_HUB_OFFLINE)")
    else:
        failure = _ask_hub(name, kind, timeout)
    if failure is None:
        return name
    if isinstance(failure, RepositoryNotFoundError):  # gated ones too: GatedRepoError is a subclass
        raise _refused_by_hub(name, kind, failure)
    cached = _cached(name, kind)
    if cached is None:
        raise UserError(
            f"{_label(kind)} {name} is no local path and not in the cache, and the model hub cannot be reached.",
            expected=f"an answer from {constants.ENDPOINT} within {timeout:g} s",
            found=f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else 'no answer'}",
            remedy=f"download it elsewhere (hf download {name}{' --repo-type dataset' if kind == 'dataset' else ''} "
            f"--local-dir FOLDER) and give the local folder as {_KEYS[kind]}, or try again with a network",
        )
    go_offline()
    return cached


def go_offline() -> None:
    """Keep the hub libraries of this process, and its children, from asking the hub."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # for what is imported later, and for children
    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:  # it copies the constant when imported
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def _refuse_impossible_name(name: str, kind: Kind) -> None:
    """Say "no such path" for what can only be one, instead of asking the hub for it."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise UserError(
            f"{_label(kind)} {name!r} does not exist.",
            expected="an existing local path, or a hub name (owner/name)",
            remedy=f"check {_KEYS[kind]}",
        ) from None


def _ask_hub(name: str, kind: Kind, timeout: float) -> Exception | None:
    """None where the hub has `name`, else why not."""
    ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
    try:
        in_background(lambda: ask(name, timeout=timeout)).result(timeout)
    except TimeoutError:
        return TimeoutError(f"no answer within {timeout:g} s")
    except Exception as error:  # whatever it is, the caller puts it into words
        return error
    return None


def in_background(call: Callable[[], T]) -> Future[T]:
    """Run `call` in a daemon thread, which does not keep the process alive: `.result(seconds)` waits that long only.

    A deadline on name resolution cannot be had in another way.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # handed to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _cached(name: str, kind: Kind) -> str | None:
    """What to load a cached `name` from without the hub; None where it is not cached."""
    if kind == "dataset" and _has_arrow_cache(name):
        return name
    try:
        folder = snapshot_download(name, repo_type="dataset" if kind == "dataset" else "model", local_files_only=True)
    except (LocalEntryNotFoundError, OSError):
        return None
    return folder if kind == "dataset" else name


def _has_arrow_cache(name: str) -> bool:
    """Whether `datasets` has built this set before: it then loads it by name without the hub."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    *owner, leaf = name.split("/")
    folder = Path(config.HF_DATASETS_CACHE) / "___".join([*owner, camelcase_to_snakecase(leaf)])
    return any(folder.glob("*/*/*"))


def _refused_by_hub(name: str, kind: Kind, failure: RepositoryNotFoundError) -> UserError:
    if isinstance(failure, GatedRepoError):
        reason, remedy = (
            "asks for consent first",
            f"accept its terms at {constants.ENDPOINT}/{name}, then: hf auth login",
        )
    else:
        reason, remedy = "has no such name", "check the spelling, or log in if it is private: hf auth login"
    return UserError(
        f"{_label(kind)} {name} is no local path, and the hub {reason}.",
        remedy=f"{remedy}; or give a local path as {_KEYS[kind]}",
    )


def _label(kind: Kind) -> str:
    return "Data set" if kind == "dataset" else kind.capitalize()


@contextmanager
def loading(what: str, path: str, expected: str) -> Iterator[None]:
    """Tell what a library raises while it loads `what` from a path as one `UserError`."""
    try:
        yield
    except Exception as error:  # OSError, ValueError, KeyError …: the libraries have no common one
        raise UserError(
            f"No {what} can be loaded from {path}.",
            expected=expected,
            found=f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}",
        ) from error
