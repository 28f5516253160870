"""`--set name=value` on a command line, and YAML as people write it.

assignment("ppo.learning_rate=3e-4", "section.key=value", "ppo.kl_coef=0.1")     # ("ppo.learning_rate", 0.0003)
"""

import re
from typing import Any

import yaml

from rlhf.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 3e-4 is a number (in YAML 1.1 it is a string, for want of a dot)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """The plain values of a YAML text. Raises `yaml.YAMLError`."""
    return yaml.load(text, _Loader)


def assignment(text: str, form: str, example: str) -> tuple[str, Any]:
    """Name and value of `name=value`; the value is YAML and may hold equals signs.

    Args:
        text: as it was given to --set.
        form: how it should look, for the message.
        example: likewise.

    Raises:
        UserError: no name, no equals sign, or a value that is not YAML.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"Bad --set {text!r}.", expected=form, remedy=f"for example --set {example}")
    try:
        return name, read_yaml(value)
    except yaml.YAMLError:
        raise UserError(f"Bad --set {text!r}.", expected="a YAML value after =") from None
