"""Reward functions by their dotted path: a user's own, or TRL's.

    reward = FunctionReward("my_rewards.polite", {"word": "please"})
    reward(prompts=["Hi"], completions=["Hello, please come in!"])

A function is called with keyword arguments, as TRL does: prompts, completions and every further column that it names or
takes as **kwargs. A class is made once, with `args`, and its instance is called.
"""

import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rlhf.data.rows import shorten
from rlhf.errors import UserError, nearest
from rlhf.rewards.core import Columns


class FunctionReward:
    """Calls what a dotted path names.

    Args:
        path: `module.name`; the current folder counts, too.
        args: keyword arguments, of the function in each call, of the class for making its instance.
        conversational: hand over prompts and completions as lists of messages.

    Raises:
        UserError: nothing of that name, not to be called, asynchronous, or it does not take `args`.
    """

    def __init__(self, path: str, args: dict[str, Any] | None = None, conversational: bool = False) -> None:
        self.path, self.conversational = path, conversational
        found = resolve(path)
        _refuse_unknown(found, path, args or {})
        self.function: Callable[..., Any] = _made(found, path, args or {}) if inspect.isclass(found) else found
        self.args = {} if inspect.isclass(found) else args or {}
        if inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(type(self.function).__call__):
            raise UserError(
                f"The reward function {path} is asynchronous.", expected="a plain function that returns a list"
            )

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> Sequence[float | None]:
        """What the function returns.

        Raises:
            UserError: it failed, naming the first reply that it fails on; or it needs a column that is not there.
        """
        given: Columns = {"prompts": prompts, "completions": completions, **columns}
        refuse_missing(self.function, self.path, {*given, *self.args})
        if self.conversational:
            given |= _as_messages(given)
        taken = _parameters(self.function)
        given = {name: given[name] for name in given if name not in self.args and (taken is None or name in taken)}
        try:
            return self.function(**given, **self.args)
        except UserError:
            raise
        except Exception as error:  # whatever it is, it is the function's own
            raise self._explained(error, given, prompts, completions) from error

    def _explained(self, error: Exception, given: Columns, prompts: list[str], completions: list[str]) -> UserError:
        row = self._first_failing(given, len(completions))
        which = f"all {len(completions)} replies at once" if row is None else f"reply {row + 1} of {len(completions)}"
        where = traceback.extract_tb(error.__traceback__)[-1]
        asked = "" if row is None else f"; prompt {shorten(prompts[row])}, reply {shorten(completions[row])}"
        return UserError(
            f"The reward function {self.path} failed on {which}.",
            found=f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno}){asked}",
            remedy="mend the function; --debug shows the traceback",
        )

    def _first_failing(self, given: Columns, count: int) -> int | None:
        """The first reply that fails by itself; None where each works alone."""
        for row in range(count):
            try:
                self.function(**{name: values[row : row + 1] for name, values in given.items()}, **self.args)
            except Exception:
                return row
        return None


def resolve(path: str) -> Callable[..., Any]:
    """The function or class of a dotted path. Raises `UserError` where there is none; names the nearest."""
    module_name, _, name = path.rpartition(".")
    module = _module(module_name, path)
    found = getattr(module, name, None)
    if callable(found):
        return found
    own = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
    raise UserError(
        f"There is no reward function {path}.",
        expected=f"a function or class {name} in {getattr(module, '__file__', None) or module_name}",
        found="no such name" if found is None else f"{type(found).__name__}, which cannot be called",
        remedy=nearest(name, own) if own else "write it there",
    )


def _module(name: str, path: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, lest a file there hides an installed package
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise _no_module(name, error.name, path) from None
        raise _broken(name, path, error) from error
    except Exception as error:  # anything may happen in a module of the user's
        raise _broken(name, path, error) from error


def _no_module(name: str, missing: str, path: str) -> UserError:
    parent, _, leaf = missing.rpartition(".")
    folders = getattr(sys.modules.get(parent), "__path__", []) if parent else [str(Path.cwd())]
    there = [f"{parent}.{found.name}" if parent else found.name for found in pkgutil.iter_modules(folders)]
    return UserError(
        f"There is no reward function {path}.",
        expected=f"a module {name} in the current folder or among the installed packages",
        found=f"no module {missing}; the current folder is {Path.cwd()}",
        remedy=nearest(missing, there) if there else f"write {leaf}.py, or start in the folder where it is",
    )


def _broken(name: str, path: str, error: Exception) -> UserError:
    return UserError(
        f"The module of the reward function {path} cannot be imported.",
        found=f"{type(error).__name__}: {error}",
        remedy=f"mend it, until this works: python -c 'import {name}'",
    )


def _made(kind: type, path: str, args: dict[str, Any]) -> Callable[..., Any]:
    try:
        instance = kind(**args)
    except UserError:
        raise
    except Exception as error:  # whatever its constructor raises
        raise UserError(f"The reward {path} cannot be made.", found=f"{type(error).__name__}: {error}") from error
    if not callable(instance):
        raise UserError(f"The reward {path} is a class whose instances cannot be called.", remedy="give it __call__")
    return instance


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """What it takes by name; None where that is everything, or not known."""
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some built-in functions
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in found.values()) else dict(found)


def _refuse_unknown(found: Callable[..., Any], path: str, args: dict[str, Any]) -> None:
    taken = _parameters(found)
    for name in args if taken is not None else ():
        if name not in (taken or {}):
            raise UserError(
                f"The reward {path} does not take the argument {name} under args:.", remedy=nearest(name, taken or {})
            )


def refuse_missing(function: Callable[..., Any], path: str, given: Iterable[str]) -> None:
    """Refuse a function that needs an argument which is neither a column nor under `args`. Raises `UserError`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    missing = [p.name for p in named if p.default is p.empty and p.name not in set(given)]
    if missing:
        raise UserError(
            f"The reward function {path} needs {', '.join(missing)}.",
            expected=f"arguments among {', '.join(sorted(given))}",
            remedy="rename them, or give them under args:",
        )


def _as_messages(given: Columns) -> Columns:
    asked = given.get("messages") or [[{"role": "user", "content": prompt}] for prompt in given["prompts"]]
    replies = [[{"role": "assistant", "content": completion}] for completion in given["completions"]]
    return {"prompts": asked, "completions": replies}
