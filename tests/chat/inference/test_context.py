"""What of a conversation the model is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.chat.inference.context import PromptTooLong, fit_context, with_system
from rlhf.errors import UserError
from rlhf.records import Message, ask
from rlhf.tokenizer import encode_prompt

TALK = tuple(
    Message(role, text)
    for role, text in [("user", "one two"), ("assistant", "three"), ("user", "four"), ("assistant", "five"),
                       ("user", "six")]
)  # fmt: skip
SYSTEM = Message("system", "Be brief.")


def tokens(tokenizer, messages) -> int:
    return len(encode_prompt(tokenizer, messages))


def test_everything_is_shown_where_it_fits(tokenizer):
    fitted = fit_context(tokenizer, TALK, 4, tokens(tokenizer, TALK) + 4)
    assert fitted.dropped_turns == 0 and fitted.ids == encode_prompt(tokenizer, TALK)


def test_the_oldest_question_goes_with_its_answer(tokenizer):
    fitted = fit_context(tokenizer, TALK, 4, tokens(tokenizer, TALK) + 3)
    assert fitted.dropped_turns == 2 and fitted.ids == encode_prompt(tokenizer, TALK[2:])


def test_the_system_turn_stays(tokenizer):
    least = (SYSTEM, TALK[-1])
    fitted = fit_context(tokenizer, (SYSTEM, *TALK), 4, tokens(tokenizer, least) + 4)
    assert fitted.dropped_turns == 4 and fitted.ids == encode_prompt(tokenizer, least)


def test_a_message_that_never_fits_names_both_counts(tokenizer):
    count = tokens(tokenizer, (SYSTEM, TALK[-1]))
    with pytest.raises(PromptTooLong, match=rf"at most {count + 3} tokens(?s:.*)found: {count} tokens") as error:
        fit_context(tokenizer, (SYSTEM, *TALK), 4, count + 3)
    assert (error.value.prompt_tokens, error.value.max_tokens, error.value.context) == (count, 4, count + 3)


def test_without_a_limit_nothing_is_dropped(tokenizer):
    assert fit_context(tokenizer, TALK * 50, 4, None).dropped_turns == 0


@pytest.mark.parametrize("messages", [(), TALK[:2], (SYSTEM,)])
def test_there_must_be_something_to_reply_to(tokenizer, messages):
    with pytest.raises(UserError, match="nothing to reply to"):
        fit_context(tokenizer, messages, 4, None)


@given(st.integers(1, 12), st.integers(10, 200))
def test_what_is_shown_is_the_longest_end_that_fits(tokenizer, pairs, context):
    talk = (*(TALK[:2] * pairs), TALK[-1])
    try:
        fitted = fit_context(tokenizer, talk, 4, context)
    except PromptTooLong:
        assert tokens(tokenizer, talk[-1:]) + 4 > context
        return
    assert len(fitted.ids) + 4 <= context and fitted.dropped_turns % 2 == 0
    if fitted.dropped_turns:
        assert tokens(tokenizer, talk[fitted.dropped_turns - 2 :]) + 4 > context


def test_a_system_turn_is_put_in_front_once():
    assert with_system(TALK, "Be brief.") == (SYSTEM, *TALK)
    assert with_system((SYSTEM, *TALK), "Be long.") == (SYSTEM, *TALK)
    assert with_system(ask("Hi"), "") == ask("Hi")
