import pytest

from rlhf.envs.talk import Talk
from rlhf.records import Message
from rlhf.tokenizer import encode_prompt
from tests.env_world import END, small, small_world, spell


def test_a_reply_ends_with_the_end_of_sequence():
    talk = Talk(small_world(), 0)
    before = list(talk.ids)
    assert talk.say(spell("ca")) is None and talk.room == 4
    said = talk.say([*spell("t"), END, *spell("x")])
    assert said is not None and said.text == "cat" and said.ended
    assert said.prompt_ids == before and said.reply_ids == [*spell("cat"), END]
    assert talk.ids == [*before, *spell("cat"), END]
    assert talk.terminated and not talk.truncated


def test_a_reply_without_room_is_cut():
    said = Talk(small_world(), 0).say(spell("aaaaaaaa"))
    assert said is not None and said.text == "aaaaaa" and not said.ended


@pytest.mark.parametrize("token", ["<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"])
def test_a_special_token_is_not_written_and_ends_the_reply(token):
    talk = Talk(small_world(), 0)
    before = list(talk.ids)
    said = talk.say([*spell("a"), small()[1].convert_tokens_to_ids(token), *spell("b")])
    assert said is not None and said.text == "a" and not said.ended
    assert talk.ids == [*before, *spell("a")]


def test_masks_let_no_special_token_but_the_end_through():
    talk = Talk(small_world(), 0)
    forbidden = {small()[1].convert_ids_to_tokens(i) for i in range(len(small()[1])) if not talk.mask()[i]}
    assert forbidden == {"<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"}
    before = talk.mask()
    talk.say(spell("aaaaa"))
    assert talk.room == 1 and talk.mask().tolist() == before.tolist()  # also at the last place: a reply may be cut
    talk.say(spell("a"))
    assert talk.over and talk.mask().nonzero()[0].tolist() == [END]


def test_further_turns_are_written_as_the_chat_template_has_them():
    talk = Talk(small_world(user=("And a dog?",)), 0)
    talk.say([*spell("ca"), END])
    said = (Message("user", "The cat"), Message("assistant", "ca"), Message("user", "And a dog?"))
    assert talk.messages == said and talk.ids == encode_prompt(small()[1], said)
    assert not talk.over and talk.room == 6
    spoken = talk.say([END])
    assert spoken is not None and spoken.prompt.prompt == said and spoken.text == ""
    assert talk.terminated


def test_a_user_may_be_a_function_of_what_was_said():
    heard = []

    def user(messages):
        heard.append(messages[-1].content)
        return "More?" if len(heard) < 2 else None

    talk = Talk(small_world(user=user), 2)
    for letter in "ab":
        talk.say([*spell(letter), END])
    assert heard == ["a", "b"] and talk.terminated and talk.replies == 2


def test_a_talk_has_as_many_replies_as_the_world_allows():
    talk = Talk(small_world(user=lambda messages: "More?", max_turns=3), 2)
    while not talk.over:
        talk.say([END])
    assert talk.replies == 3 and talk.terminated


def test_a_turn_that_does_not_fit_truncates():
    talk = Talk(small_world(user=lambda messages: "x" * 100), 2)
    talk.say([END])
    assert talk.truncated and not talk.terminated


def test_a_late_reply_has_the_room_that_is_left():
    """Prompt, reply and question take so many tokens that three are left of the context."""
    asked = (Message("user", "Paris"), Message("assistant", "a"), Message("user", "So?"))
    length = len(encode_prompt(small()[1], asked)) + 3
    talk = Talk(small_world(prompts=["Paris"], user=("So?",), context=length), 0)
    talk.say([*spell("a"), END])
    assert talk.room == 3
    said = talk.say(spell("aaaa"))
    assert said is not None and said.text == "aaa" and len(talk.ids) == talk.world.context
