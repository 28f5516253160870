"""Worse replies made from good ones: turns demonstrations into preference pairs, each with the `kind` of its flaw.

    pairs = made_pairs(demonstrations, sampler)    # chosen: the person's reply; rejected: flawed

Which family of flaws a row gets depends on a hash of its prompt and reply. Flaws that leave the length about as it
is come first; then as many replies are cut short, and as many drawn out, as makes the longer reply right half the time.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from random import Random

from rlhf.data.corpus import NAME, Corpus, context_of
from rlhf.data.hashing import generator
from rlhf.data.source import Sampler, as_prompt
from rlhf.evaluation.text import SENTENCE_END
from rlhf.records import Demonstration, Preference

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w.)])|(?<=\w )\d[\d,]*(?=\.(?:\s|$))")
_OPPOSITES = {
    "more": "less", "most": "least", "first": "last", "before": "after", "above": "below", "largest": "smallest",
    "larger": "smaller", "high": "low", "higher": "lower", "increase": "decrease", "increases": "decreases",
    "always": "never", "hot": "cold", "early": "late", "north": "south", "east": "west", "northern": "southern",
    "old": "new", "positive": "negative", "long": "short", "inside": "outside", "true": "false", "best": "worst",
    "can": "cannot", "yes": "no", "all": "none", "left": "right", "warm": "cool", "fast": "slow", "win": "lose",
}  # fmt: skip
_OPPOSITES |= {b: a for a, b in _OPPOSITES.items()}
_OPPOSITE = re.compile(rf"\b({'|'.join(_OPPOSITES)})\b", re.IGNORECASE)
_NEGATABLE = re.compile(r"\b(is|are|was|were|will|does|did|has|have|should)\b( not\b)?")
_DIGRESSIONS = (
    "Anyway, that reminds me of something else.",
    "There is so much more that one could say here.",
    "But I digress, as I often do.",
    "Speaking of which, and this may or may not matter:",
    "To be honest, it all depends on how you look at it, and one can look at it in many ways.",
    "On a different note,",
    "Where was I?",
    "I could go on about this for a long time.",
)
_SHORTEST = 8  # words below which a reply is neither cut nor drawn out: what is left would say nothing


def made_pairs(rows: Sequence[Demonstration], sampler: Sampler | None = None) -> list[Preference]:
    """One pair a demonstration, in the order of the rows; rows rated below 0.5 or without a feasible flaw are left out.

    Args:
        rows: the demonstrations of one split.
        sampler: replies of the SFT model for the kind `sampled`; None leaves the kind out (and logs that).
    """
    if sampler is None:
        log.info("made pairs: no model to sample from, so the kind 'sampled' is left out")
    good = [row for row in rows if row.quality is None or row.quality >= 0.5]
    corpus = Corpus(good)
    rngs = [generator(f"{row.id} {row.completion}", "made pairs") for row in good]
    families = [rng.choice(_families(row, sampler is not None)) for row, rng in zip(good, rngs, strict=True)]
    pairs: dict[int, Preference] = {}
    for index in _of(families, "fact", "topic", "context"):
        if made := _same_length(good[index], families[index], corpus, rngs[index]):
            pairs[index] = made
    if sampler is not None:
        pairs |= _sampled(good, _of(families, "sampled"), sampler)
    pairs |= _balancing(good, _of(families, "length"), rngs, corpus, list(pairs.values()))
    found = [pairs[index] for index in sorted(pairs)]
    log.info("made pairs: %d of %d rows, %s", len(found), len(rows), dict(Counter(pair.kind for pair in found)))
    return found


def wrong_fact(reply: str, corpus: Corpus, category: str, rng: Random) -> str | None:
    """Numbers, names and comparisons changed (half of them, at least one), else a statement negated.

    None where the reply states nothing that can be changed.
    """
    facts = [*_NUMBER.finditer(reply), *NAME.finditer(reply), *_OPPOSITE.finditer(reply)]
    if not facts:
        facts = list(_NEGATABLE.finditer(reply))[:1]
    rng.shuffle(facts)
    changed, start = reply, len(reply) + 1
    for fact in sorted(facts[: (len(facts) + 1) // 2], key=lambda match: -match.start()):
        if fact.end() <= start:  # from the end, so that earlier positions stay true
            changed = changed[: fact.start()] + _altered(fact[0], reply, corpus, category, rng) + changed[fact.end() :]
            start = fact.start()
    return changed if changed != reply else None


def cut_short(reply: str, rng: Random) -> str:
    """The first 20 to 60 percent of the words, ending in the middle of things."""
    words = list(re.finditer(r"\S+", reply))
    kept = max(1, int(len(words) * rng.uniform(0.2, 0.6)))
    return reply[: words[kept - 1].end()].rstrip(".,;:!?")


def repetitive(reply: str, rng: Random) -> str:
    """One sentence or line said three to five times, as a model that loops does."""
    parts = _pieces(reply)
    at = rng.randrange(min(len(parts), 3))  # early: a later cut to a token limit must not hide it
    return "".join([*parts[: at + 1], *[parts[at]] * rng.randint(2, 4), *parts[at + 1 :]]).strip()


def rambling(reply: str, other: str, rng: Random) -> str:
    """The reply broken off by digressions and by what another reply says, before it goes on."""
    parts, foreign = _pieces(reply), _pieces(other)
    at = rng.randint(1, min(len(parts), 3))
    first, second = rng.sample(_DIGRESSIONS, 2)
    return "".join([*parts[:at], f"{first} ", *foreign[:2], f"{second} ", *parts[at:]]).strip()


def _pieces(text: str) -> list[str]:
    """The sentences and lines of a text, each with the white space after it (the last: with the one before it)."""
    parts = [part for part in SENTENCE_END.split(text.strip()) if part]
    breaks = [part for part in SENTENCE_END.findall(text.strip())]
    return [part + gap for part, gap in zip(parts, [*breaks, breaks[-1] if breaks else " "], strict=True)]


def _families(row: Demonstration, can_sample: bool) -> list[str]:
    """The families of flaws that are possible for a row, each as often as it is likely."""
    families = ["fact", "topic"]
    if context_of(row):
        families.append("context")
    if can_sample:
        families.append("sampled")
    if len(row.completion.split()) >= _SHORTEST:
        families += ["length", "length"]
    return families


def _same_length(row: Demonstration, family: str, corpus: Corpus, rng: Random) -> Preference | None:
    """A pair whose sides are about equally long; where the family's own flaw is impossible, an off-topic reply."""
    if family == "fact" and (changed := wrong_fact(row.completion, corpus, row.category, rng)):
        return _pair(row, changed, "wrong_fact")
    if family == "context" and (foreign := corpus.reply_to_other_context(row, rng)):
        return _pair(row, foreign, "context_ignored")
    other = corpus.reply(row, rng)
    return _pair(row, other, "off_topic") if other else None


def _sampled(rows: Sequence[Demonstration], chosen: list[int], sampler: Sampler) -> dict[int, Preference]:
    replies = sampler([as_prompt(rows[index]) for index in chosen]) if chosen else []
    return {
        index: _pair(rows[index], reply.strip(), "sampled")
        for index, reply in zip(chosen, replies, strict=True)
        if reply.strip() not in ("", rows[index].completion)
    }


def _balancing(
    rows: Sequence[Demonstration], chosen: list[int], rngs: Sequence[Random], corpus: Corpus, made: Sequence[Preference]
) -> dict[int, Preference]:
    """Replies cut short or drawn out, in the numbers that make up for which side is longer in the pairs made so far."""
    surplus = sum(map(_longer, made))
    cuts = min(max((len(chosen) - surplus) // 2, 0), len(chosen))
    pairs = {}
    for position, index in enumerate(sorted(chosen, key=lambda index: rngs[index].random())):
        row, rng = rows[index], rngs[index]
        if position < cuts:
            pairs[index] = _pair(row, cut_short(row.completion, rng), "cut_short")
        elif (position - cuts) % 2 and (other := corpus.reply(row, rng)):
            pairs[index] = _pair(row, rambling(row.completion, other, rng), "rambling")
        else:
            pairs[index] = _pair(row, repetitive(row.completion, rng), "repetitive")
    return pairs


def _altered(fact: str, reply: str, corpus: Corpus, category: str, rng: Random) -> str:
    if fact[0].isdigit():
        at = rng.choice([index for index, sign in enumerate(fact) if sign.isdigit()])
        digits = "123456789" if at == 0 else "0123456789"
        return fact[:at] + rng.choice(digits.replace(fact[at], "")) + fact[at + 1 :]
    if opposite := _OPPOSITES.get(fact.lower()):
        return opposite.capitalize() if fact[0].isupper() else opposite
    if negatable := _NEGATABLE.fullmatch(fact):
        return negatable[1] if negatable[2] else f"{fact} not"
    return corpus.name(category, fact, reply, rng) or fact


def _pair(row: Demonstration, rejected: str, kind: str) -> Preference:
    return Preference(row.id, row.prompt, row.completion, rejected, "made", kind, row.category)


def _longer(pair: Preference) -> int:
    """1 where the chosen reply is the longer one, -1 where the rejected is, 0 on a tie."""
    return (len(pair.chosen) > len(pair.rejected)) - (len(pair.chosen) < len(pair.rejected))


def _of(families: Sequence[str], *wanted: str) -> list[int]:
    return [index for index, family in enumerate(families) if family in wanted]
