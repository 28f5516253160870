"""Silences the library notices that recur in every run and ask nothing of the user, and only those.

The package imports this before any of the libraries is imported: some speak up while they load.
"""

import logging
import os
import re
import warnings

LOGGED = {
    # On a CPU, once for every layer in 8 bits.
    "bitsandbytes.autograd._functions": r"inputs will be cast from",
    # A faster kernel for 4 bits on a CPU, looked for on the hub at import, whatever the precision.
    "bitsandbytes.backends.cpu.ops": r"Failed to load CPU gemm_4bit_forward",
    # The reward head is new when a reward model starts from a language model; nothing else may be missing.
    "transformers.modeling_utils": r"LOAD REPORT.*\nKey.*\n[-+ ]+\nscore\.weight\s+\|\s+MISSING\s[^\n]*\n\s*\nNotes",
}
"""Logger → a regular expression for the notice."""

WARNED = ("`gradient_checkpointing` is deprecated", "`is_gradient_checkpointing` is deprecated")
"""TRL's own use of names that transformers has renamed."""

DELETED = r"Adapter .* was active which is now deleted"
"""peft's, where a version is taken out of the server; which adapter is active is set before each use."""


class _Without(logging.Filter):
    """Lets everything through but what a regular expression is found in; colours do not count."""

    def __init__(self, pattern: str) -> None:
        super().__init__()
        self.pattern = re.compile(pattern)

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.pattern.search(re.sub(r"\x1b\[\d*m", "", record.getMessage()))


def silence() -> None:
    """Drop the notices above, and TRL's reminder that its PPO trainer is experimental (its version is pinned)."""
    for name, pattern in LOGGED.items():
        logging.getLogger(name).addFilter(_Without(pattern))
    for text in WARNED:
        warnings.filterwarnings("ignore", message=text, category=FutureWarning)
    warnings.filterwarnings("ignore", message=DELETED, category=UserWarning)
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
