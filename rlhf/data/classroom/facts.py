"""Tasks that ask for what the classroom knows: facts, word groups, and a sentence of one's own.

Each task is a function from a random generator to a `Draft`.
"""

import random
from functools import cache

from rlhf.data.classroom.example import Draft, capital, join, lower, others, wrap
from rlhf.data.classroom.judge import Key, words_of
from rlhf.data.classroom.prose import small_talk
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
    Relation,
    article,
)

_MIXED_UP_SHARE = 0.03
"""Share of the wrong answers to a fact that are another fact's right answer. To see through those, a reader has to
compare answer and subject; a usual mistake can be known by itself."""
_CHATTY_SHARE = 0.2
"""Share of the questions about facts that come after small talk, drawn at random."""
_NUMBERS = frozenset(str(n) for n in range(21))
_ITEMS = lower(word for group in GROUPS.values() for word in group)
_GROUP_NAMES = frozenset(name.removesuffix("s") for name in GROUPS)
_PICKED = ("fruits", "vegetables", "birds", "insects", "tools", "instruments", "vehicles")
_INSTRUCTION = frozenset("write sentence tell about begin story with invent".split())


@cache
def _fact_keys(name: str) -> dict[str, Key]:
    """The answer key of each subject of a relation. Of an answer of several words, the last one counts."""
    facts = RELATIONS[name].facts
    subjects = {subject: frozenset(words_of(subject)) - {"plus", "minus"} for subject in facts}
    answers = {subject: words_of(answer)[-1] for subject, (answer, *_) in facts.items()}
    said = frozenset(words_of(answer)[-1] for told in facts.values() for answer in told)
    candidates = said.union(*subjects.values())
    candidates |= _NUMBERS if name in ("sum", "difference") else frozenset()
    return {
        subject: Key(
            frozenset({answers[subject]}), 1, candidates - subjects[subject] - {answers[subject]}, subjects[subject], 10
        )
        for subject in facts
    }


def _mistake(rng: random.Random, mistakes: list[str], answers: list[str]) -> tuple[str, str]:
    """A wrong answer and its kind: a usual mistake, or what is right elsewhere."""
    if mistakes and rng.random() >= _MIXED_UP_SHARE:
        return "wrong_fact", rng.choice(mistakes)
    return "mixed_up", rng.choice(answers)


def _category(relation: Relation, subject: str) -> str:
    """The relation's, or general_qa for every seventh subject: the same questions about other things."""
    return "general_qa" if list(relation.facts).index(subject) % 7 == 6 else relation.category


def fact(name: str, rng: random.Random) -> Draft:
    """A fact of the named relation, asked in one of its wordings."""
    relation = RELATIONS[name]
    subject = rng.choice(list(relation.facts))
    answer, *mistakes = relation.facts[subject]
    question = rng.choice(relation.questions).format(s=subject, **{"as": article(subject)})
    if rng.random() < _CHATTY_SHARE:
        question = f"{small_talk(rng)} {capital(question)}"
    templates = tuple(t.replace("{s}", subject).replace("{as}", article(subject)) for t in relation.answers)
    answers = others(relation.answered.values(), but=[answer])
    wrong = tuple(_mistake(rng, mistakes, answers) for _ in range(3))
    category = _category(relation, subject)
    return Draft(wrap(rng, question), category, name, templates, answer, wrong, _fact_keys(name)[subject])


def pick(rng: random.Random) -> Draft:
    """Which of two things belongs to a group."""
    group, other = rng.sample(_PICKED, 2)
    right, wrong = rng.choice(GROUPS[group]), rng.choice(GROUPS[other])
    one = group.removesuffix("s")
    first, second = rng.sample([right, wrong], 2)
    question = rng.choice(
        (
            f"Which of these is {article(one)}: {first} or {second}?",
            f"Which one is {article(one)}, {first} or {second}?",
            f"Choose the {one}: {first}, {second}.",
        )
    )
    key = Key(frozenset({right}), 1, (_ITEMS | _GROUP_NAMES) - {right, one}, frozenset({one}), 10)
    templates = (f"The {{}} is {article(one)}.",)
    return Draft(wrap(rng, question), "classification", "pick", templates, right, (("mixed_up", wrong),), key)


def mood(rng: random.Random) -> Draft:
    """Whether a sentence is happy or sad."""
    glad = rng.random() < 0.5
    deed = rng.choice(GLAD if glad else SORRY).replace("{o}", rng.choice(OBJECTS))
    answer, wrong = ("happy", "sad") if glad else ("sad", "happy")
    question = rng.choice(
        (
            "Is this sentence happy or sad?",
            "Classify the sentence as happy or sad.",
            "What is the mood of this sentence, happy or sad?",
        )
    )
    key = Key(frozenset({answer}), 1, frozenset({wrong}), frozenset({"sentence"}), 10)
    text = wrap(rng, question, f"{rng.choice(NAMES)} {deed}.")
    return Draft(text, "classification", "mood", ("This sentence is {}.",), answer, (("mixed_up", wrong),), key)


def ideas(rng: random.Random) -> Draft:
    """Two or three things of a group."""
    group = rng.choice(list(GROUPS))
    count, number = rng.choice(((2, "two"), (3, "three")))
    name = rng.choice(NAMES)
    question = rng.choice(
        (
            f"Name {number} {group}.",
            f"Give me ideas: {number} {group}.",
            f"{name} wants to know {number} {group}.",
            f"Think of {number} {group} for {name}.",
            f"List {number} {group} that {name} could draw.",
        )
    )
    members = rng.sample(GROUPS[group], count)
    strangers = rng.sample(others(_sorted_items(), but=GROUPS[group]), 2)
    wrong = tuple(("mixed_up", join([*members[:-1], stranger])) for stranger in strangers)
    key = Key(frozenset(GROUPS[group]), count, _ITEMS - frozenset(GROUPS[group]), frozenset({group[:-1]}), 10)
    templates = (f"{number} {group} are {{}}.",)
    return Draft(wrap(rng, question), "brainstorming", f"ideas_{count}", templates, join(members), wrong, key)


@cache
def _sorted_items() -> tuple[str, ...]:
    return tuple(sorted(_ITEMS))


def tale(rng: random.Random) -> Draft:
    """A sentence about an animal of some temper in some place."""
    temper, animal, place = rng.choice(TEMPERS), rng.choice(ANIMALS), rng.choice(PLACES)
    thing = f"{article(temper)} {animal} in the {place}"
    question = rng.choice(
        (f"Write a sentence about {thing}.", f"Tell a story about {thing}.", f"Invent a line on {thing}.")
    )
    wanted = frozenset({temper, animal, place})
    key = Key(wanted, 3, (lower([*TEMPERS, *ANIMALS, *PLACES]) | _INSTRUCTION) - wanted, frozenset({animal}), 12)
    deed = rng.choice(DEEDS)
    slot, answer, vocabulary = rng.choice(
        (
            (f"the {temper} {animal} {deed} in the {{}}.", place, PLACES),
            (f"the {temper} {{}} {deed} in the {place}.", animal, ANIMALS),
            (f"the {{}} {animal} {deed} in the {place}.", temper, TEMPERS),
        )
    )
    wrong = tuple(("mixed_up", word) for word in rng.sample(others(vocabulary, but=[answer]), 2))
    return Draft(wrap(rng, question), "creative_writing", "tale", (slot,), answer, wrong, key)
