"""Two replies to one prompt, and which of them the judge prefers, one label in ten a mistake.

More than half of the pairs are alike to the letter but for the answer, so that style alone does not win: a small
reward model learns style from few pairs, and truth only from many. The others are equally true and differ in style, or
set a right answer in poor style against a wrong one in good style.
"""

import random

from rlhf.data.classroom.judge import grade
from rlhf.data.classroom.pool import Example
from rlhf.data.classroom.styles import STYLES, polished
from rlhf.records import Preference, ask

MISTAKES = 0.10
"""Share of the pairs whose label is wrong, as people's labels are."""
_TRUTH_SHARE, _CROSS_SHARE = 0.60, 0.08
"""Of pairs about what has usual mistakes; where it has none (sums, months, passages), a model of this size does not see
which answer is right, and a third as many pairs ask for it."""
_TRUTH_STYLES = {"polished": 50, "plain": 20, "curt": 12, "impolite": 9, "rambling": 9}
_WORSE_STYLES = {
    "plain": 16, "curt": 16, "impolite": 15, "rambling": 15, "repetitive": 16, "cut_short": 14, "off_topic": 4,
}  # fmt: skip
_HEDGED_SHARE = 0.08

_Reply = tuple[str, str]
"""Why the reply may be worse, and its text."""


def _draw(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def _wrong(rng: random.Random, example: Example) -> _Reply:
    """A wrong answer, now and then one that hedges, and why it is wrong."""
    kind, answer = rng.choice(example.draft.wrong)
    if example.draft.key.count == 1 and rng.random() < _HEDGED_SHARE:
        return "hedged", " or ".join(rng.sample([answer, example.draft.answer], 2))
    return kind, answer


def _differ_in_truth(rng: random.Random, example: Example) -> tuple[_Reply, _Reply]:
    """In the same words but for the answer, so that nothing else can tell the two apart."""
    style, words = STYLES[_draw(rng, _TRUTH_STYLES)], rng.random()
    kind, wrong = _wrong(rng, example)
    right_reply, wrong_reply = (
        style(random.Random(words), example.draft, answer) for answer in (example.draft.answer, wrong)
    )
    return ("", right_reply), (kind, wrong_reply)


def _differ_in_both(rng: random.Random, example: Example) -> tuple[_Reply, _Reply]:
    style = STYLES[rng.choice(("plain", "impolite", "rambling", "curt"))]
    kind, answer = rng.choice(example.draft.wrong)
    return ("", style(rng, example.draft, example.draft.answer)), (kind, polished(rng, example.draft, answer))


def _differ_in_style(rng: random.Random, example: Example, stranger: Example) -> tuple[_Reply, _Reply]:
    draft, worse = example.draft, _draw(rng, _WORSE_STYLES)
    if worse == "off_topic":
        other = stranger.draft
        return ("", polished(rng, draft, draft.answer)), (worse, polished(rng, other, other.answer))
    better = "polished" if rng.random() < 0.8 else _draw(rng, _TRUTH_STYLES)
    answer = draft.answer if rng.random() < 0.75 else rng.choice(draft.wrong)[1]
    return (better, STYLES[better](rng, draft, answer)), (worse, STYLES[worse](rng, draft, answer))


def make_pair(rng: random.Random, example: Example, stranger: Example) -> Preference:
    """A pair whose sides differ in gold. `stranger` is another example of the category, for replies off the topic."""
    known = any(kind == "wrong_fact" for kind, _ in example.draft.wrong)
    truth, cross = (share if known else share / 3 for share in (_TRUTH_SHARE, _CROSS_SHARE))
    while True:
        luck = rng.random()
        if luck < truth:
            one, two = _differ_in_truth(rng, example)
        elif luck < truth + cross:
            one, two = _differ_in_both(rng, example)
        else:
            one, two = _differ_in_style(rng, example, stranger)
        gap = grade(example.draft.key, one[1]) - grade(example.draft.key, two[1])
        # A reply that is faulty by design can beat the other by chance (a wrong answer cut before it): no pair of ours.
        if abs(gap) > 1e-9 and (one if gap < 0 else two)[0] not in ("", "polished"):
            break
    (_, best), (kind, worst) = (one, two) if gap > 0 else (two, one)
    mistaken = rng.random() < MISTAKES
    chosen, rejected = (worst, best) if mistaken else (best, worst)
    return Preference(example.id, ask(example.draft.text), chosen, rejected, "classroom", kind,
                      example.draft.category, mislabelled=mistaken)  # fmt: skip
