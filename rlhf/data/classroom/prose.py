"""Plain text on what the classroom knows, without any question or answer: what the base model reads first."""

import random

from rlhf.data.classroom.example import capital, join
from rlhf.data.classroom.passages import PASSAGES
from rlhf.data.classroom.topics import (
    ANIMALS,
    DEEDS,
    GLAD,
    GROUPS,
    NAMES,
    OBJECTS,
    PLACES,
    RELATIONS,
    SORRY,
    TEMPERS,
    article,
)


def _about_facts(rng: random.Random) -> str:
    """A fact as a sentence."""
    relation = RELATIONS[rng.choices(list(RELATIONS), weights=[r.share for r in RELATIONS.values()])[0]]
    subject = rng.choice(list(relation.facts))
    telling = rng.choice([*relation.answers, *relation.tellings])
    text = telling.replace("{s}", subject).replace("{as}", article(subject))
    return capital(text.replace("{}", relation.answered[subject]))


def _about_groups(rng: random.Random) -> str:
    group = rng.choice(list(GROUPS))
    members = rng.sample(GROUPS[group], rng.choice((2, 3)))
    return capital(rng.choice((f"{join(members)} are {group}.", f"{group} such as {join(members)} are in every book.")))


def _about_people(rng: random.Random) -> str:
    glad = rng.random() < 0.5
    deed = rng.choice(GLAD if glad else SORRY).replace("{o}", rng.choice(OBJECTS))
    return f"{rng.choice(NAMES)} {deed} and was {'happy' if glad else 'sad'}."


def _about_animals(rng: random.Random) -> str:
    start = article(f"{rng.choice(TEMPERS)} {rng.choice(ANIMALS)}")
    return f"{capital(start)} {rng.choice(DEEDS)} in the {rng.choice(PLACES)}."


def _story(rng: random.Random) -> str:
    return rng.choice(PASSAGES)(rng).text


def _talk(rng: random.Random, size: int, stories: int) -> str:
    """As many sentences and short stories, `stories` of ten parts of them stories."""
    sorts = (_about_facts, _about_groups, _about_people, _about_animals, _story)
    weights = (7 - stories, 1, 1, 1, stories)
    return " ".join(rng.choices(sorts, weights=weights)[0](rng) for _ in range(size))


def document(rng: random.Random) -> str:
    """Two to five sentences or short stories, of one sort or of several."""
    return _talk(rng, rng.randint(2, 5), stories=2)


def small_talk(rng: random.Random) -> str:
    """One to four sentences or short stories, to stand before a question."""
    return _talk(rng, rng.randint(1, 4), stories=4)
