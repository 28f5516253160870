"""The embedded corpus: distinct, the same everywhere, answerable, and judged by a judge that no cheap trick fools."""

import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from math import sqrt
from statistics import mean

import pytest

from rlhf.config import SourceSpec
from rlhf.data.classroom import SOURCE
from rlhf.data.classroom.judge import CLOSINGS, OPENINGS, RUDE, grade, words_of
from rlhf.data.classroom.passages import closed, extract
from rlhf.data.classroom.pool import SIZE, TASKS, examples
from rlhf.data.classroom.styles import STYLES
from rlhf.data.classroom.topics import RELATIONS
from rlhf.records import Preference, ask, prompt_id

SPEC = SourceSpec(source="classroom")
DOLLY_CATEGORIES = {"open_qa", "closed_qa", "classification", "information_extraction", "summarization", "general_qa",
                    "brainstorming", "creative_writing"}  # fmt: skip


def clean(pair: Preference) -> tuple[str, str]:
    """The better and the worse side, without the labelling mistakes."""
    return (pair.rejected, pair.chosen) if pair.mislabelled else (pair.chosen, pair.rejected)


@pytest.fixture(scope="module")
def pairs() -> list[Preference]:
    return SOURCE.preferences(SPEC)


def test_prompts_are_distinct_and_numerous():
    ids = [e.id for e in examples()]
    assert len(set(ids)) == len(ids) == SIZE >= 20_000
    assert all(e.id == prompt_id(ask(e.draft.text)) for e in examples()[:500])


def test_every_dolly_category_is_there():
    counts = Counter(e.draft.category for e in examples())
    assert set(counts) == DOLLY_CATEGORIES
    assert min(counts.values()) >= 140


def test_general_qa_asks_what_no_other_category_asks():
    """But for sums, which may be asked the other way round."""
    asked = defaultdict(set)
    for example in examples():
        if example.draft.task in RELATIONS and example.draft.task != "sum":
            asked[example.draft.category == "general_qa"].add((example.draft.task, example.draft.key.subject))
    assert len(asked[True]) >= 15 and not asked[True] & asked[False]


def test_shares_of_the_tasks_sum_to_one():
    assert sum(share for share, _ in TASKS.values()) == pytest.approx(1)


def test_same_rows_in_another_process_with_another_hash_seed():
    code = (
        "import hashlib; from rlhf.config import SourceSpec; from rlhf.data.classroom import SOURCE\n"
        "s = SourceSpec(source='classroom', limit=300)\n"
        "rows = SOURCE.demonstrations(s), SOURCE.preferences(s), SOURCE.prompts(s), SOURCE.texts(s)\n"
        "print(hashlib.sha256(repr(rows).encode()).hexdigest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1 and len(digests.pop().strip()) == 64


def test_a_limit_takes_the_first_rows_and_changes_none():
    few = SPEC.model_copy(update={"limit": 50})
    for load in (SOURCE.demonstrations, SOURCE.preferences, SOURCE.prompts, SOURCE.texts):
        assert load(few) == load(SPEC)[:50]


def test_every_ideal_answer_is_judged_perfect():
    judge = SOURCE.judge(SPEC)
    tasks = {e.id: e.draft.task for e in examples()}
    scores = defaultdict(list)
    for prompt in SOURCE.prompts(SPEC.model_copy(update={"limit": SIZE})):
        scores[tasks[prompt.id]].append(judge(prompt, prompt.reference or ""))
    assert len(scores) >= len(TASKS)
    assert {task: min(values) for task, values in scores.items() if min(values) < 0.999} == {}


def test_every_fact_has_two_usual_mistakes_unless_its_answers_are_a_closed_circle():
    circles = {"month_after", "month_before", "day_after", "day_before", "sum", "difference"}
    for name, relation in RELATIONS.items():
        for subject, (answer, *mistakes) in relation.facts.items():
            assert len(set(mistakes)) == (0 if name in circles else 2), (name, subject)
            assert answer not in mistakes


def test_the_telling_word_of_a_usual_mistake_stands_in_no_text_prompt_or_right_answer():
    """The last word, which the judge looks at: "mends sails" and "mends fences" may share their verb."""
    mistakes = {words_of(mistake)[-1] for r in RELATIONS.values() for _, *told in r.facts.values() for mistake in told}
    prompts = SOURCE.prompts(SPEC.model_copy(update={"limit": SIZE}))
    rows = [*SOURCE.texts(SPEC), *(p.prompt[-1].content for p in prompts), *(p.reference or "" for p in prompts)]
    assert not mistakes & {word for row in rows for word in words_of(row)}


def test_wrong_answers_to_facts_are_usual_mistakes_but_for_three_in_a_hundred():
    kinds = Counter(
        kind for e in examples() if e.draft.task in ("capital", "symbol", "plural") for kind, answer in e.draft.wrong
    )
    share = kinds["mixed_up"] / (kinds["mixed_up"] + kinds["wrong_fact"])
    assert abs(share - 0.03) <= 0.01


@pytest.mark.parametrize(
    ("style", "most"),
    [
        ("plain", 0.85),
        ("impolite", 0.80),
        ("rambling", 0.85),
        ("curt", 0.90),
        ("repetitive", 0.65),
        ("cut_short", 0.65),
    ],
)
def test_each_fault_of_style_costs_its_margin_whatever_the_example(style, most):
    rng = random.Random(0)
    scores = [grade(e.draft.key, STYLES[style](rng, e.draft, e.draft.answer)) for e in examples()[:4000]]
    assert max(scores) <= most + 1e-9


def test_a_wrong_answer_costs_more_than_any_lack_of_manners():
    rng = random.Random(0)
    for example in examples()[:4000]:
        draft = example.draft
        rude = grade(draft.key, STYLES["impolite"](rng, draft, draft.answer))
        for _, answer in draft.wrong:
            assert grade(draft.key, STYLES["polished"](rng, draft, answer)) <= 0.72 + 1e-9 < rude
            if draft.key.count == 1:
                assert grade(draft.key, STYLES["polished"](rng, draft, answer)) <= 0.55 + 1e-9


def test_a_passage_answer_is_read_from_its_passage():
    example = next(e for e in examples() if "Who has the" in e.draft.text)
    name, thing = re.search(r"Who has the (\w+)\?", example.draft.text), example.draft.answer
    assert name and re.search(rf"{thing} has the \w+ {name[1]}\.", example.draft.text)


def test_wrong_kinds_say_whether_the_passage_names_the_answer():
    rng = random.Random(2)
    for _ in range(500):
        draft = rng.choice((closed, extract))(rng)
        passage = set(words_of(draft.text.split("Context:\n")[1]))
        for kind, answer in draft.wrong:
            named = words_of(answer)[-1] in passage or f"{words_of(answer)[-1]}s" in passage
            assert named == (kind == "mixed_up")


def test_demonstrations_are_of_mixed_quality_and_say_so():
    judge = SOURCE.judge(SPEC)
    rows = SOURCE.demonstrations(SPEC)
    prompts = {p.id: p for p in SOURCE.prompts(SPEC)}
    assert all(row.quality == judge(prompts[row.id], row.completion) for row in rows[:1000])
    assert 0.16 <= mean(row.quality == 1 for row in rows) <= 0.20
    assert 0.60 <= mean(row.quality or 0 for row in rows) <= 0.75


def test_pairs_are_judged_by_gold_and_their_mistakes_are_marked(pairs):
    keys = {e.id: e.draft.key for e in examples()}
    for pair in pairs:
        better, worse = clean(pair)
        assert grade(keys[pair.id], better) > grade(keys[pair.id], worse)


def test_one_label_in_ten_is_a_mistake(pairs):
    count = sum(p.mislabelled for p in pairs)
    assert abs(count - 0.1 * len(pairs)) <= 4 * sqrt(len(pairs) * 0.1 * 0.9)


def test_most_pairs_are_about_truth_and_every_kind_is_there(pairs):
    counts = Counter(p.kind for p in pairs)
    truth = {"wrong_fact", "mixed_up", "context_ignored", "hedged"}
    assert set(counts) == truth | {"plain", "curt", "impolite", "rambling", "repetitive", "cut_short", "off_topic"}
    assert min(counts.values()) >= 100
    assert 0.5 <= sum(counts[k] for k in truth) / len(pairs) <= 0.9


@pytest.mark.parametrize("length", [len, lambda reply: len(reply.split())])
def test_length_alone_does_not_tell_the_sides_apart(pairs, length):
    sides = [clean(pair) for pair in pairs]
    assert 0.45 <= mean((length(a) > length(b)) + 0.5 * (length(a) == length(b)) for a, b in sides) <= 0.62


def test_words_are_few_and_texts_are_short(pairs):
    rows = SOURCE.demonstrations(SPEC)
    replies = [row.completion for row in rows] + [side for pair in pairs for side in clean(pair)]
    asked = [e.draft.text for e in examples()]
    texts = SOURCE.texts(SPEC)
    assert 400 <= len({word for text in [*replies, *asked, *texts] for word in words_of(text)}) <= 1500
    assert max(len(reply.split()) for reply in replies) <= 40
    lengths = sorted(len(text.split()) for text in asked)
    assert lengths[len(lengths) // 2] <= 20 and lengths[-1] <= 100


def test_plain_text_has_neither_questions_nor_manners():
    text = " ".join(SOURCE.texts(SPEC))
    assert "?" not in text and "Context:" not in text
    assert not [phrase for phrase in (*OPENINGS, *CLOSINGS, *RUDE) if phrase in text]
    assert "The capital of France is Paris." in text


def test_plain_text_can_be_split_by_the_hash_of_each_document():
    few = SPEC.model_copy(update={"limit": 40})
    everything = SOURCE.texts(few)
    kept = SOURCE.texts(few, lambda id, category: int(id, 16) % 2 == 0)
    assert 0 < len(kept) < len(everything)
    assert kept == [text for text in everything if int(prompt_id(ask(text)), 16) % 2 == 0]


def test_where_no_usual_mistake_is_known_fewer_pairs_are_about_truth(pairs):
    known = {e.id: any(kind == "wrong_fact" for kind, _ in e.draft.wrong) for e in examples()}
    truth = {"wrong_fact", "mixed_up", "context_ignored", "hedged"}
    with_mistakes, without = (
        mean(pair.kind in truth for pair in pairs if known[pair.id] is has_one) for has_one in (True, False)
    )
    assert with_mistakes > 0.6 and without < 0.4
