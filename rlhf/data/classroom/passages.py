"""Tasks about a short passage: answer from it (closed_qa), extract from it, or say it in one sentence.

Each task is a function from a random generator to a `Draft`. A wrong answer is either another thing that the
passage names ("mixed_up") or one that it does not name ("context_ignored").
"""

import random
from dataclasses import dataclass

from rlhf.data.classroom.example import Draft, join, lower, others, wrap
from rlhf.data.classroom.judge import Key
from rlhf.data.classroom.topics import COLOURS, DAYS, NAMES, OBJECTS, PLACES

_DAYS = DAYS.split()
_COUNTS = [str(n) for n in range(2, 10)]
_VOCABULARY = {"name": NAMES, "object": OBJECTS, "place": PLACES, "colour": COLOURS, "day": _DAYS, "number": _COUNTS}


@dataclass(frozen=True)
class _Passage:
    text: str
    named: dict[str, list[str]]
    """What it names of each kind (name, object, place, colour, day, number), in its order."""


def belongings(rng: random.Random) -> _Passage:
    """Who has what, in which colour."""
    size = rng.choice((2, 2, 3))
    names, things, colours = rng.sample(NAMES, size), rng.sample(OBJECTS, size), rng.sample(COLOURS, size)
    text = " ".join(f"{n} has the {c} {o}." for n, o, c in zip(names, things, colours, strict=True))
    return _Passage(text, {"name": names, "object": things, "colour": colours})


def whereabouts(rng: random.Random) -> _Passage:
    """Who is where."""
    size = rng.choice((2, 2, 3))
    names, places = rng.sample(NAMES, size), rng.sample(PLACES, size)
    text = " ".join(f"{n} is in the {p}." for n, p in zip(names, places, strict=True))
    return _Passage(text, {"name": names, "place": places})


def trip(rng: random.Random) -> _Passage:
    """Two people go somewhere and buy something."""
    (one, two), place, day = rng.sample(NAMES, 2), rng.choice(PLACES), rng.choice(_DAYS)
    count, thing = rng.choice(_COUNTS), rng.choice(OBJECTS)
    text = f"On {day} {one} went to the {place} with {two}. They bought {count} {thing}s there."
    named = {"name": [one, two], "place": [place], "day": [day], "number": [count], "object": [thing]}
    return _Passage(text, named)


PASSAGES = (belongings, whereabouts, trip)


def _belongings_questions(p: _Passage, i: int) -> list[tuple[str, str, str, int, list[str]]]:
    name, thing = p.named["name"][i], p.named["object"][i]
    return [
        (f"Who has the {thing}?", f"{{}} has the {thing}.", "name", i, [thing]),
        (f"What does {name} have?", f"{name} has the {{}}.", "object", i, [name]),
        (f"What colour is the {thing}?", f"The {thing} is {{}}.", "colour", i, [thing]),
    ]


def _whereabouts_questions(p: _Passage, i: int) -> list[tuple[str, str, str, int, list[str]]]:
    name, place = p.named["name"][i], p.named["place"][i]
    return [
        (f"Where is {name}?", f"{name} is in the {{}}.", "place", i, [name]),
        (f"Who is in the {place}?", f"{{}} is in the {place}.", "name", i, [place]),
    ]


def _trip_questions(p: _Passage, i: int) -> list[tuple[str, str, str, int, list[str]]]:
    (one, two), place, thing = p.named["name"], p.named["place"][0], p.named["object"][0]
    return [
        (f"When did {one} go to the {place}?", f"{one} went to the {place} on {{}}.", "day", 0, [one]),
        (f"Where did {one} go?", f"{one} went to the {{}}.", "place", 0, [one]),
        (f"Who went with {one}?", f"{{}} went with {one}.", "name", 1, [one]),
        (f"How many {thing}s did they buy?", f"They bought {{}} {thing}s.", "number", 0, [thing]),
        (f"What did {one} and {two} buy?", f"{one} and {two} bought {{}}s.", "object", 0, [one, two]),
    ]


_QUESTIONS = {belongings: _belongings_questions, whereabouts: _whereabouts_questions, trip: _trip_questions}


def _wrong(
    rng: random.Random, kind: str, passage: _Passage, answer: list[str], but: list[str]
) -> tuple[tuple[str, str], ...]:
    """Wrong answers: the last word of the right one gives way to another, named in the passage or not."""
    named = others(passage.named[kind], but=[*answer, *but])
    absent = others(_VOCABULARY[kind], but=[*passage.named[kind], *but])
    chosen = [("mixed_up", rng.choice(named))] if named else []
    chosen.append(("context_ignored", rng.choice(absent)))
    return tuple((reason, join([*answer[:-1], word])) for reason, word in chosen)


def closed(rng: random.Random) -> Draft:
    """A question that the passage answers in a word."""
    make = rng.choice(PASSAGES)
    passage = make(rng)
    where = rng.randrange(len(passage.named["name"]))
    question, template, kind, index, subject = rng.choice(_QUESTIONS[make](passage, where))
    answer = passage.named[kind][index]
    asked = lower([answer, *subject])
    own = [words if make is trip else words[where : where + 1] for words in passage.named.values()]
    strangers = lower([*NAMES, *OBJECTS, *PLACES, *COLOURS]) - lower(word for words in own for word in words)
    rivals = (strangers | lower(_VOCABULARY[kind])) - asked
    key = Key(frozenset({answer.casefold()}), 1, rivals, lower(subject), 9)
    wrong = _wrong(rng, kind, passage, [answer], subject)
    return Draft(wrap(rng, question, passage.text), "closed_qa", f"closed_{kind}", (template,), answer, wrong, key)


def extract(rng: random.Random) -> Draft:
    """All things of one kind that a passage names."""
    passage = rng.choice((*PASSAGES, trip))(rng)
    kind = rng.choice([kind for kind in passage.named if kind != "object"])
    answer = passage.named[kind]
    label = f"{kind}s" if len(answer) > 1 else kind
    question = rng.choice(
        (
            f"Find the {label} in this text.",
            f"Extract the {label} from the text.",
            f"Which {label} does the text give?",
            f"List the {label} in the text.",
        )
    )
    wanted = lower(answer)
    key = Key(wanted, len(answer), lower(_VOCABULARY[kind]) - wanted, frozenset({kind}), 10)
    template = f"The {label} {'are' if len(answer) > 1 else 'is'} {{}}."
    draft = (wrap(rng, question, passage.text), "information_extraction", f"extract_{kind}", (template,))
    return Draft(*draft, join(answer), _wrong(rng, kind, passage, answer, []), key)


def summary(rng: random.Random) -> Draft:
    """Three sentences in one."""
    (one, two), place, thing = rng.sample(NAMES, 2), rng.choice(PLACES), rng.choice(OBJECTS)
    day = rng.choice(_DAYS)
    told, template, extra = rng.choice(
        (
            (f"{one} is in the {place}. {two} is there too. They play with the {thing}.",
             f"{{}} play with the {thing} in the {place}.", []),
            (f"{one} went to the {place}. {two} came on {day} too. They found a {thing}.",
             f"{{}} found a {thing} at the {place} on {day}.", [day]),
        )
    )  # fmt: skip
    question = rng.choice(
        (
            "Summarize the text in one sentence.",
            "What is the text about?",
            "Give a short summary of this text.",
            "Say this text in one sentence.",
        )
    )
    wanted = lower([one, two, place, thing, *extra])
    rivals = lower([*NAMES, *PLACES, *OBJECTS, *_DAYS]) - wanted
    key = Key(wanted, len(wanted), rivals, lower([one, two]), 11)
    wrong = _wrong(rng, "name", _Passage(told, {"name": [one, two]}), [one, two], [])
    return Draft(wrap(rng, question, told), "summarization", "summary", (template,), join([one, two]), wrong, key)
