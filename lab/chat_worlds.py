"""What `lab.chat` learns on: questions of the embedded school corpus, others to measure on, and a language model.

both = worlds(Task(seed=1))                        # a language model is made and trained on the training questions
both = worlds(Task(run=Path("models/tiny")))       # that of a run: its train split to learn, its test split to measure
learn_on, measure_on = both
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lab.chat_model import small_model
from lab.chat_words import shared_words
from lab.experiment import need
from rlhf.config import DataSection, SourceSpec, load_config
from rlhf.data import classroom
from rlhf.data.classroom import pool
from rlhf.data.mixing import in_split, order
from rlhf.env import World, make_world
from rlhf.records import Prompt
from rlhf.registry import Registry

LONGEST = 70
"""Letters of a question: short ones leave more steps for the replies."""


@dataclass(frozen=True)
class Task:
    """What one training is given, besides the settings of PPO."""

    seed: int = 0
    """Of the language model that is made, and of PPO."""
    run: Path | None = None
    """Folder of a run whose language model it is instead; the seed is PPO's alone then."""
    prompts: int = 3_000
    """Questions to learn from."""
    held_out: int = 400
    """Others, to measure on."""
    reply_tokens: int = 24
    """Of a reply, at most."""
    entries: int = 512
    """Vocabulary of the language model that is made."""
    language_steps: int = 600
    """Steps of its training."""


class Questions(NamedTuple):
    training: list[Prompt]
    held_out: list[Prompt]


class Worlds(NamedTuple):
    """Conversations to learn from, and others to measure on; one language model in both."""

    training: World
    held_out: World


def questions(task: Task) -> Questions:
    """Short open questions with references, no question in both parts, in hash order: the same for every seed.

    With a run the two parts are of its train and test splits. Without, the held-out ones are the first of all.

    Raises:
        UserError: there are not as many, the held-out ones are all about one fact, or there is no such run.
    """
    rows = _short()
    if task.run is None:
        held_out, training = rows[: task.held_out], rows[task.held_out :]
    else:
        data = _splits(task.run)
        held_out, training = in_split(data, rows, "test"), in_split(data, rows, "train")
    where = "" if task.run is None else " in the run's test split"
    need(task.held_out <= len(held_out), "held_out", f"at most {len(held_out)}{where}", task.held_out)
    where = f" with --held-out {task.held_out}" if task.run is None else " in the run's train split"
    need(task.prompts <= len(training), "prompts", f"at most {len(training)}{where}", task.prompts)
    asked = Questions(training[: task.prompts], held_out[: task.held_out])
    facts = len({fact(prompt) for prompt in asked.held_out})
    need(facts >= 2, "held_out", "more: questions about two facts at least, for an interval", task.held_out)
    return asked


def worlds(task: Task) -> Worlds:
    """Both worlds. A language model that is made reads the training questions alone."""
    asked = questions(task)
    given: dict[str, Any] = {"reward": shared_words, "max_reply_tokens": task.reply_tokens, "device": "cpu"}
    if task.run is None:
        model, tokenizer = small_model(asked.training, task.entries, task.language_steps, task.seed)
    else:
        whole = make_world(task.run, prompts=asked.training, **given)
        model, tokenizer = whole.model, whole.tokenizer
    return Worlds(*(make_world(model=model, tokenizer=tokenizer, prompts=part, **given) for part in asked))


def fact(prompt: Prompt) -> str:
    """What a question is about, as the sentence that answers it: the same for all its wordings."""
    draft = _drafts()[prompt.id]
    return draft.sentence(draft.answer)


def known(asked: Questions) -> float:
    """Share of the held-out questions whose fact some training question asks for too, in other words."""
    trained = {fact(prompt) for prompt in asked.training}
    return sum(fact(prompt) in trained for prompt in asked.held_out) / len(asked.held_out)


@cache
def _short() -> list[Prompt]:
    rows = classroom.SOURCE.prompts(SourceSpec(source=classroom.SOURCE.name))
    return sorted((row for row in rows if row.category == "open_qa" and len(row.prompt[-1].content) <= LONGEST),
                  key=order)  # fmt: skip


@cache
def _drafts() -> dict[str, Any]:
    return {row.id: row.draft for row in pool.examples()}


def _splits(run: Path) -> DataSection:
    """As the run's live version was configured."""
    registry = Registry(run.expanduser())
    return load_config(registry.path(registry.live()) / "config.yaml").data
