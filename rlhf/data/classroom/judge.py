"""The gold judge: what a right, complete, polite and concise answer is.

    score = (0.45 correct + 0.20 complete + 0.20 polite + 0.15 concise) · (1 − share of repeated words)

and 0 for a reply that gives no answer at all, be it ever so polite.

- correct: of the words that the answer key wants, the share that is named, less one for every rival that is named
  too (listing candidates earns nothing), diluted where the reply is longer than an answer needs; 0 where it denies.
- complete: 1 for a whole sentence that gives an answer and names what was asked; 0.5 where it does not name that, or
  begins without a capital; 0 for a fragment, and where the reply stops without a full stop.
- polite: 1 with a friendly phrase, 0.25 with none, 0 with a rude one.
- concise: 1 for one sentence of plain answer, no fragment, brought to its end, and at most two friendly phrases;
  else 0.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rlhf.records import Prompt

WEIGHTS = {"correct": 0.45, "complete": 0.20, "polite": 0.20, "concise": 0.15}
NEUTRAL_POLITENESS = 0.25

OPENINGS = {"Sure!": 6, "Of course!": 2, "Happy to help!": 2, "Good question!": 2, "Thank you for asking!": 2}
"""Friendly phrases before an answer, and how often each is used, in parts …"""
CLOSINGS = {"I hope this helps.": 8, "Please ask me again any time.": 2, "I am glad to help.": 2, "Have a nice day!": 2}
"""… and those after it."""
RUDE = ("That is a silly question.", "Everyone knows that.", "Do not ask me again.", "You should know it.",
        "Stop wasting my time.")  # fmt: skip

VERBS = frozenset(
    """is are was were has have had called lives belongs went goes bought took found saw met play plays sleeps runs
    sings waits hides walks sits jumps dances sounds feels likes helps""".split()
)
"""Verbs that make a sentence of an answer."""
_DENIALS = frozenset("not no never none neither nor cannot".split())
"""Words that turn an answer round; no right answer needs them."""
_DIGITS = dict(zip("zero one two three four five six seven eight nine ten".split(), range(11), strict=True))


@dataclass(frozen=True)
class Key:
    """What the judge wants of an answer; all words in lower case."""

    wanted: frozenset[str]
    """Words that make an answer right …"""
    count: int
    """… and how many of them are asked for."""
    rivals: frozenset[str]
    """Words that contradict a right answer: other candidates, other subjects."""
    subject: frozenset[str] = frozenset()
    """Words that a full sentence repeats from the question."""
    max_words: int = 14
    """Words that an answer needs at most, friendly phrases not counted."""


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, numbers up to ten as digits, "n't" as "not"."""
    spelled = re.sub(r"n['’]t\b", " not", text.casefold())
    return [str(_DIGITS.get(word, word)) for word in re.findall(r"[^\W_]+", spelled)]


_POLITE_WORDS = [words_of(phrase) for phrase in (*OPENINGS, *CLOSINGS)]
_RUDE_WORDS = [words_of(phrase) for phrase in RUDE]


@dataclass(frozen=True)
class _Reading:
    """A reply taken apart."""

    sentences: list[str]
    """Those that say something besides friendly and rude phrases."""
    contents: list[list[str]]
    """The words of each of them, without the phrases."""
    polite: int
    rude: int
    repeated: float
    """Share of the words that stand in a run of three that was there before, or repeat the word before them."""
    ends_well: bool


def _strip(words: list[str], phrases: list[list[str]]) -> tuple[list[str], int]:
    found = 0
    for phrase in phrases:
        size, at = len(phrase), 0
        while at + size <= len(words):
            if words[at : at + size] == phrase:
                words = words[:at] + words[at + size :]
                found += 1
            else:
                at += 1
    return words, found


def _repeated(words: list[str]) -> float:
    """Share of words that repeat: the word before them, or part of a run of three words that was there before."""
    seen: set[tuple[str, ...]] = set()
    again = {i for i in range(1, len(words)) if words[i] == words[i - 1]}
    for i in range(len(words) - 2):
        run = tuple(words[i : i + 3])
        if run in seen:
            again.update((i, i + 1, i + 2))
        seen.add(run)
    return len(again) / len(words) if words else 0.0


def _read(reply: str) -> _Reading:
    sentences, contents, polite, rude = [], [], 0, 0
    for sentence in re.findall(r"[^.!?\n]+[.!?]*", reply):
        words, friendly = _strip(words_of(sentence), _POLITE_WORDS)
        words, unfriendly = _strip(words, _RUDE_WORDS)
        polite, rude = polite + friendly, rude + unfriendly
        if words:
            sentences.append(sentence.strip())
            contents.append(words)
    return _Reading(sentences, contents, polite, rude, _repeated(words_of(reply)), reply.rstrip().endswith((".", "!")))


def _named(words: list[str], vocabulary: frozenset[str]) -> set[str]:
    """Which words of a vocabulary are named, a plural in -s counting as its singular."""
    singular = {word[:-1] for word in words if len(word) > 3 and word.endswith("s")}
    return {word for word in words if word in vocabulary} | {word for word in singular if word in vocabulary}


def _correct(content: list[str], key: Key) -> float:
    if _DENIALS & set(content):
        return 0.0
    right, wrong = len(_named(content, key.wanted)), len(_named(content, key.rivals))
    surplus = max(0, right - key.count)
    dilution = min(1.0, key.max_words / len(content))
    return max(0.0, (min(right, key.count) - surplus - wrong) / key.count) * dilution


def _complete(reading: _Reading, key: Key) -> float:
    best = 0.0
    if not reading.ends_well:
        return best
    for sentence, words in zip(reading.sentences, reading.contents, strict=True):
        answers = _named(words, key.wanted | key.rivals)
        if len(words) >= 4 and answers and VERBS & set(words):
            whole = not sentence[0].islower() and _named(words, key.subject) == key.subject
            best = max(best, 1.0 if whole else 0.5)
    return best


def grade(key: Key, reply: str) -> float:
    """How good a reply is, 0 to 1, by the sum at the head of this file."""
    reading = _read(reply)
    content = [word for words in reading.contents for word in words]
    if not _named(content, (key.wanted | key.rivals) - key.subject):
        return 0.0
    complete = _complete(reading, key)  # 0 for a fragment
    polite = 0.0 if reading.rude else 1.0 if reading.polite else NEUTRAL_POLITENESS
    one = len(reading.contents) == 1 and complete and not reading.repeated
    concise = one and reading.polite <= 2 and len(content) <= key.max_words
    parts = {"correct": _correct(content, key), "complete": complete, "polite": polite, "concise": float(concise)}
    return sum(WEIGHTS[name] * value for name, value in parts.items()) * (1 - reading.repeated)


def right(key: Key, reply: str) -> bool:
    """Whether a reply has the right answer, in whatever form: full marks for being correct."""
    content = [word for words in _read(reply).contents for word in words]
    return bool(content) and _correct(content, key) == 1


class GoldJudge:
    """Grades replies to the classroom's prompts and to variants of them (typos, paraphrase, longer context)."""

    def __init__(self, keys: Mapping[str, Key]) -> None:
        self._keys = keys

    def __call__(self, prompt: Prompt, reply: str) -> float | None:
        """The gold score, 0 to 1; None for a prompt without an answer key."""
        key = self._keys.get(prompt.origin or prompt.id)
        return None if key is None else grade(key, reply)
