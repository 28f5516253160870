"""Notices of libraries that are dropped: only those, and not what looks like them."""

import logging

import pytest

import rlhf  # noqa: F401  (installs the filters)


def passes(name: str, message: str) -> bool:
    """Whether the named logger lets the message through."""
    return bool(logging.getLogger(name).filter(logging.makeLogRecord({"name": name, "msg": message})))


def report_of_missing(*keys: str) -> str:
    """What transformers logs about a checkpoint that lacks these weights."""
    rows = "".join(f"{key} | MISSING | \n" for key in keys)
    return f"\x1b[1mGPTNeo LOAD REPORT\x1b[0m from: x\nKey | Status | \n----+----+-\n{rows}\nNotes:\n- MISSING:\tnew"


@pytest.mark.parametrize(
    ("keys", "told"),
    [(["score.weight"], False), (["score.weight", "wte.weight"], True), (["wte.weight"], True),
     (["wte.weight", "score.weight"], True)],
)  # fmt: skip
def test_a_new_reward_head_is_no_news_but_any_other_missing_weight_is(keys, told):
    assert passes("transformers.modeling_utils", report_of_missing(*keys)) == told


def test_the_notice_is_as_transformers_really_writes_it(tmp_path):
    """A network without a head is saved and loaded as a reward model, once with the filters and once without."""
    from transformers import AutoModelForSequenceClassification, GPTNeoConfig, GPTNeoForCausalLM

    config = GPTNeoConfig(vocab_size=300, hidden_size=8, num_layers=1, num_heads=1, attention_types=[[["global"], 1]])
    GPTNeoForCausalLM(config).save_pretrained(tmp_path)
    logger = logging.getLogger("transformers.modeling_utils")
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    filters = logger.filters[:]
    try:
        AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1)
        assert not seen
        logger.filters.clear()
        AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1)
        assert len(seen) == 1 and "score.weight" in seen[0]
    finally:
        logger.filters[:] = filters
        logger.removeHandler(handler)
