"""What a data source is: a name, and the record types that it can give.

A source overrides what it has. Asked for what it lacks, it raises a `UserError` that names the sources that have it:

    class Dolly(Source):
        name = "dolly"

        def demonstrations(self, spec: SourceSpec) -> list[Demonstration]: ...

    SOURCE = Dolly()
"""

from collections.abc import Callable
from typing import Literal, NoReturn

from rlhf.config import SourceSpec
from rlhf.errors import UserError
from rlhf.records import Demonstration, Preference, Prompt

Judge = Callable[[Prompt, str], float | None]
"""How good a reply to a prompt truly is, 0 to 1; None for a prompt that it knows nothing of."""

Sampler = Callable[[list[Prompt]], list[str]]
"""One reply a prompt, sampled from a model."""

Keep = Callable[[str, str], bool]
"""Whether the row with this id and category may be used: the caller's split and held-out categories."""

Need = Literal["demonstrations", "preferences"]


class Source:
    """Base of all sources. Every method takes the source's entry in the configuration and returns all its rows."""

    name: str = ""

    def demonstrations(self, spec: SourceSpec) -> list[Demonstration]:
        """Prompts with a reply. Raises `UserError` where the source has none."""
        self.lacks("demonstrations")

    def preferences(self, spec: SourceSpec) -> list[Preference]:
        """Pairs of replies. Raises `UserError` where the source has none."""
        self.lacks("preferences")

    def prompts(self, spec: SourceSpec) -> list[Prompt]:
        """Prompts to reply to; by default those of the demonstrations, with their completions as references."""
        return [as_prompt(row) for row in self.demonstrations(spec)]

    def texts(self, spec: SourceSpec, keep: Keep = lambda id, category: True) -> list[str]:
        """Plain documents of the rows that `keep` lets through; by default the demonstrations' turns and replies."""
        return [as_text(row) for row in self.demonstrations(spec) if keep(row.id, row.category)]

    def judge(self, spec: SourceSpec) -> Judge | None:
        """A judge that knows the truth, where the source has one."""
        return None

    def lacks(self, need: Need) -> NoReturn:
        """Raise the `UserError` that says which sources have what this one lacks."""
        known = {kind.name for kind in Source.__subclasses__() if getattr(kind, need) is not getattr(Source, need)}
        known |= {"made"} if need == "preferences" else set()
        raise UserError(
            f"The source {self.name!r} has no {need}.",
            expected=f"one of the sources that have {need}: {', '.join(sorted(known))}",
            remedy="name one of these instead, or give the path of a file",
        )


def as_prompt(row: Demonstration) -> Prompt:
    """The prompt of a demonstration, its completion as the reference."""
    return Prompt(row.id, row.prompt, row.category, row.source, reference=row.completion, origin=row.id)


def as_text(row: Demonstration) -> str:
    """The turns of a demonstration and its reply, a blank line between them."""
    return "\n\n".join([*(turn.content for turn in row.prompt), row.completion])
