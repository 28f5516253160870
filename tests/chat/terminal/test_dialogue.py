"""A dialogue: what the model is shown, what is kept in the store, what a guardrail or a fault leaves behind."""

import resource

import pytest

from rlhf.chat.feedback import FeedbackStore
from rlhf.chat.guardrails import ASK_OTHERWISE, CANNOT_SAY, Guardrails
from rlhf.chat.inference.generation import GenerationFailed
from rlhf.chat.records import ReplySettings
from rlhf.chat.settings import GuardrailSection
from rlhf.chat.terminal.dialogue import Dialogue
from rlhf.chat.terminal.journal import Journal
from rlhf.chat.terminal.transcript import Exchange, Transcript
from rlhf.errors import UserError
from rlhf.records import Message
from tests.chat.talking import save_talker, talker_engine

SETTINGS = ReplySettings(seed=3)


@pytest.fixture
def engine(tmp_path, tokenizer):
    with talker_engine(save_talker(tmp_path / "sft", tokenizer)) as engine:
        yield engine


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "feedback.sqlite") as store:
        yield store


def said(answer):
    """What was shown of an answer."""
    return "".join(answer)


def kept(store):
    """The messages of each conversation, oldest first."""
    return [store.messages(one.id) for one in reversed(store.conversations("ann"))]


def test_what_is_shown_is_what_is_remembered_and_stored(engine, store):
    dialogue = Dialogue(engine, "sft", SETTINGS, Guardrails(GuardrailSection()), Journal(store, "ann"), "Be brief.")
    first = said(dialogue.say("Who are you?"))
    answer = dialogue.say("And now?")
    second = said(answer)
    assert (
        first
        and second
        and dialogue.transcript.exchanges
        == (
            Exchange("Who are you?", first, "sft", "length", 3),
            Exchange("And now?", second, "sft", "length", 3),
        )
    )
    [messages] = kept(store)
    assert [(m.role, m.content) for m in messages] == [
        ("user", "Who are you?"), ("assistant", first), ("user", "And now?"), ("assistant", second)
    ]  # fmt: skip
    assert [m.parent for m in messages] == [None, *(m.id for m in messages[:-1])]
    reply = messages[-1]
    assert (reply.version, reply.finish_reason, reply.completion_tokens) == ("sft", "length", 12)
    assert (reply.settings["seed"], reply.settings["system"]) == (3, "Be brief.")
    assert store.conversations("ann")[0].title == "Who are you?"
    alone = engine.reply(
        (Message("system", "Be brief."), *(Message(m.role, m.content) for m in messages[:3])), "sft", SETTINGS
    )
    assert alone.text == second  # the model was shown all of it


def test_another_reply_takes_the_place_of_the_last(engine, store):
    dialogue = Dialogue(engine, "sft", SETTINGS, journal=Journal(store, "ann"))
    with pytest.raises(UserError, match="nothing to reply to"):
        dialogue.again()
    first = said(dialogue.say("Who?"))
    dialogue.settings = ReplySettings(seed=4)
    other = said(dialogue.again())
    assert other != first and [e.reply for e in dialogue.transcript.exchanges] == [other]
    said(dialogue.say("More."))
    [messages] = kept(store)
    question, one, two, more, _ = messages
    assert (one.parent, two.parent, more.parent) == (question.id, question.id, two.id)


def test_a_judgement_goes_to_the_last_reply(engine, store):
    dialogue = Dialogue(engine, "sft", SETTINGS, journal=Journal(store, "ann"))
    with pytest.raises(UserError, match="no reply to judge"):
        dialogue.judge(1)
    said(dialogue.say("Who?"))
    dialogue.judge(1)
    dialogue.judge(-1)
    [messages] = kept(store)
    assert store.rating("ann", messages[1].id).thumb == -1
    assert [event.data["thumb"] for event in store.events("rate")] == [1, -1]
    dialogue.begin(Transcript("", dialogue.transcript.exchanges))
    with pytest.raises(UserError, match="loaded from a file"):
        dialogue.judge(1)


def test_a_loaded_conversation_is_copied_into_the_store_once_it_goes_on(engine, store):
    dialogue = Dialogue(engine, "sft", SETTINGS, journal=Journal(store, "ann"))
    old = (
        Exchange("a", "b", "v9"),
        Exchange("c", CANNOT_SAY, "v9", blocked=True),
        Exchange("d", "", "v9", "cancelled"),
    )
    dialogue.begin(Transcript("", old))
    assert kept(store) == []
    reply = said(dialogue.say("e"))
    [messages] = kept(store)
    assert [(m.role, m.content, m.version) for m in messages] == [
        ("user", "a", None), ("assistant", "b", None), ("user", "e", None), ("assistant", reply, "sft")
    ]  # fmt: skip
    shown = (*Transcript("", old).messages(), Message("user", "e"))
    assert [message.content for message in shown] == ["a", "b", "e"]
    assert engine.reply(shown, "sft", SETTINGS).text == reply


def test_a_blocked_message_never_reaches_model_or_history(engine, store):
    dialogue = Dialogue(engine, "sft", SETTINGS, Guardrails(GuardrailSection()), Journal(store, "ann"))
    answer = dialogue.say("You piece of shit")
    assert said(answer) == "" and answer.exchange == Exchange("You piece of shit", ASK_OTHERWISE, "sft", blocked=True)
    assert dialogue.transcript.exchanges == () and kept(store) == [] and engine.stats().replies == 0
    [event] = store.events("blocked")
    assert (event.data["side"], event.data["reason"]) == ("input", "words") and "shit" not in str(event.data)


class Strict(Guardrails):
    """Lets messages pass, and no reply."""

    def check_message(self, text):
        return None


def test_a_blocked_reply_is_replaced_and_neither_shown_again_nor_judged(engine, store, tmp_path):
    from tests.rewards.helpers import save_classifier

    save_classifier(tmp_path / "classifier", ("fine", "toxic"))
    settings = GuardrailSection(classifier=str(tmp_path / "classifier"), classifier_label=1, classifier_threshold=1e-6)
    dialogue = Dialogue(engine, "sft", SETTINGS, Strict(settings), Journal(store, "ann"))
    answer = dialogue.say("Who?")
    assert said(answer) == "" and answer.exchange.blocked and answer.exchange.reply == CANNOT_SAY
    assert dialogue.transcript.messages() == ()
    [messages] = kept(store)
    assert messages[1].blocked and messages[1].content == CANNOT_SAY
    assert store.events("blocked")[0].data["side"] == "output"
    with pytest.raises(UserError, match="no reply to judge"):
        dialogue.judge(1)


def test_a_message_that_is_too_long_leaves_everything_as_it_was(engine, store):
    dialogue = Dialogue(engine, "sft", SETTINGS, journal=Journal(store, "ann"))
    said(dialogue.say("Who?"))
    before = dialogue.transcript, kept(store)
    with pytest.raises(UserError, match="too long for the model"):
        dialogue.say("word " * 400)
    assert (dialogue.transcript, kept(store)) == before


def test_turns_that_do_not_fit_are_counted(engine):
    dialogue = Dialogue(engine, "sft", SETTINGS)
    answers = [dialogue.say("What is a cat? " * 5) for _ in range(1)]
    while not answers[-1].reply or not answers[-1].reply.dropped_turns:
        said(answers[-1])
        if not answers[-1].reply.dropped_turns:
            answers.append(dialogue.say("What is a cat? " * 5))
    assert answers[-1].reply.dropped_turns == 2 and len(dialogue.transcript.exchanges) == len(answers) > 1


def test_a_stopped_answer_keeps_what_was_said(engine, store):
    engine.limits = engine.limits.model_copy(update={"max_response_tokens": 200})
    dialogue = Dialogue(engine, "sft", SETTINGS, Guardrails(GuardrailSection()), Journal(store, "ann"))
    answer = dialogue.say("Who?")
    shown = next(iter(answer))
    answer.stop()
    shown += said(answer)
    assert answer.exchange.finish_reason == "cancelled" and answer.exchange.reply == shown
    assert 0 < answer.reply.completion_tokens < 200
    [messages] = kept(store)
    assert (messages[1].content, messages[1].finish_reason) == (shown, "cancelled")


def test_a_fault_is_told_and_the_chat_goes_on(engine, store):
    dialogue = Dialogue(engine, "sft", SETTINGS, journal=Journal(store, "ann"))
    calls = 0

    def fail(*_):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("out of luck")

    with engine._fleet.role("sft") as model:
        hook = model.base_model.register_forward_pre_hook(fail)
    answer = dialogue.say("Who?")
    with pytest.raises(GenerationFailed, match="out of luck"):
        said(answer)
    hook.remove()
    assert answer.exchange.finish_reason == "error"
    [messages] = kept(store)
    assert messages[1].finish_reason == "error" and "out of luck" in store.events("error")[0].data["error"]
    assert said(dialogue.say("Who?")) and dialogue.transcript.exchanges[-1].finish_reason == "length"


def test_on_a_full_disk_the_chat_goes_on_and_catches_up(engine, store):
    dialogue = Dialogue(engine, "sft", SETTINGS, journal=Journal(store, "ann"))
    journal = dialogue.journal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # no file may grow
    try:
        first = said(dialogue.say("Who?"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert first and "full" in str(journal.trouble) and kept(store) == []
    with pytest.raises(UserError, match="not stored"):
        dialogue.judge(1)
    said(dialogue.say("And?"))
    assert journal.trouble is None
    assert [m.content for m in kept(store)[-1]][:3] == ["Who?", first, "And?"]
    dialogue.judge(1)
