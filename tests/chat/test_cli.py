"""The loop on lines from a pipe, with a real engine and store: each command, and that no error ends the chat."""

import io

import pytest

from rlhf.chat.cli import Terminal
from rlhf.chat.feedback import FeedbackStore
from rlhf.chat.guardrails import ASK_OTHERWISE, Guardrails
from rlhf.chat.records import ReplySettings
from rlhf.chat.settings import GuardrailSection
from rlhf.chat.terminal.conversations import ConversationFolder
from rlhf.chat.terminal.dialogue import Dialogue
from rlhf.chat.terminal.journal import Journal
from rlhf.chat.terminal.reader import PlainLines
from rlhf.chat.terminal.screen import Screen, wants_colours
from rlhf.chat.terminal.transcript import Exchange, Transcript
from tests.chat.talking import save_talker, talker_engine


class World:
    """A terminal on a folder; `talk` feeds it lines, and gives what it has shown."""

    def __init__(self, folder, engine, **guardrails):
        self.engine, self.kept = engine, ConversationFolder(folder / "conversations")
        self.store = FeedbackStore(folder / "feedback.sqlite")
        checks = Guardrails(GuardrailSection(**guardrails))
        self.dialogue = Dialogue(engine, "sft", ReplySettings(seed=3), checks, Journal(self.store, "ann"))

    def talk(self, *lines):
        replies, notes = io.StringIO(), io.StringIO()
        reader = PlainLines(io.StringIO("".join(f"{line}\n" for line in lines)))
        Terminal(self.dialogue, self.kept, reader, Screen(replies, notes)).run()
        return replies.getvalue(), notes.getvalue()

    @property
    def said(self):
        return [exchange.said for exchange in self.dialogue.transcript.exchanges]


@pytest.fixture
def engine(tmp_path, tokenizer):
    with talker_engine(save_talker(tmp_path / "sft", tokenizer)) as engine:
        yield engine


@pytest.fixture
def world(tmp_path, engine):
    world = World(tmp_path, engine)
    yield world
    world.store.close()


def test_replies_go_to_one_stream_and_notes_to_another(world):
    replies, notes = world.talk("Who are you?", "", "And me?", "quit", "not said")
    first, second = (exchange.reply for exchange in world.dialogue.transcript.exchanges)
    assert replies == f"{first}\n{second}\n" and world.said == ["Who are you?", "And me?"]
    assert notes.count("[cut here: the reply has as many tokens as it may have]") == 2


def test_help_and_an_unknown_command(world):
    _, notes = world.talk("help", "/hlp")
    assert "/system TEXT" in notes and "did you mean /help?" in notes and world.said == []


def test_a_conversation_is_saved_and_taken_up_again(world):
    world.talk("Who are you?", "/system Be brief.", "And me?", "save rome")
    before = world.dialogue.transcript
    assert world.kept.load("rome") == before and before.system == "Be brief."
    world.talk("clear", "Other.")
    assert world.said == ["Other."]
    _, notes = world.talk("load", "load rome")
    assert world.dialogue.transcript == before and "rome\n" in notes and "loaded: 2 messages" in notes


def test_no_file_is_replaced_where_nobody_can_be_asked(world):
    world.talk("Who are you?", "save rome")
    kept = world.kept.load("rome")
    _, notes = world.talk("And me?", "save rome")
    assert "There is a conversation rome.json already." in notes and world.kept.load("rome") == kept


@pytest.mark.parametrize("order", ["save ../x", "save /tmp/x", "save ~/x", f"save {'x' * 300}", "load ../sft/config",
                                   "load none", "load damaged", "save con", "/save a\0b"])  # fmt: skip
def test_what_cannot_be_saved_or_loaded_changes_nothing(world, order):
    world.talk("Who are you?", "save other")
    (world.kept.folder / "damaged.json").write_text('{"format": "rlhf-conv')
    before = world.dialogue.transcript, sorted(world.kept.folder.iterdir())
    _, notes = world.talk(order)
    assert notes.startswith("error: ") and before == (world.dialogue.transcript, sorted(world.kept.folder.iterdir()))
    assert world.talk("And me?")[0]


def test_nothing_to_save_retry_or_judge(world):
    _, notes = world.talk("save x", "/retry", "/good", "/bad")
    assert notes.count("error: ") == 4 and not world.kept.folder.exists()


def test_judgements_and_other_replies(world):
    _, notes = world.talk("Who are you?", "/good", "/retry", "/bad")
    [conversation] = world.store.conversations("ann")
    thumbs = {id: rating.thumb for id, rating in world.store.ratings(conversation.id, "ann").items()}
    replies = [m.id for m in world.store.messages(conversation.id) if m.role == "assistant"]
    assert thumbs == {replies[0]: 1, replies[1]: -1} and "was good" in notes and "was bad" in notes
    assert world.said == ["Who are you?"]


def test_the_system_turn_is_shown_set_and_taken_away(world):
    _, notes = world.talk("/system", "/system Be brief.", "clear", "/system", "/system off")
    assert notes == "system: (none)\nsystem: Be brief.\na new conversation\nsystem: Be brief.\nsystem: (none)\n"


def test_the_self_test_measures_and_finds_nothing_wrong(world):
    _, notes = world.talk("test")
    assert "tokenizer: ok, 7 of 7 texts" in notes and "FAILED" not in notes
    assert "typed names of special tokens: ok" in notes and " tokens/s, first token after " in notes


def test_what_is_unsafe_is_answered_politely(world):
    replies, _ = world.talk("You piece of shit")
    assert replies == f"{ASK_OTHERWISE}\n" and world.said == []


def test_lines_from_a_file_wait_for_their_turn(tmp_path, engine):
    world = World(tmp_path, engine, requests_per_minute=240)  # 60 at once, then four a second
    for _ in range(60):
        world.dialogue.guardrails.check_input("ann", "Hello")
    replies, _ = world.talk("One.", "Two.")
    assert world.said == ["One.", "Two."] and "a lot at once" not in replies
    world.store.close()


def test_a_message_that_is_too_long_does_not_end_the_chat(world):
    _, notes = world.talk("word " * 400, "Hello")
    assert "too long for the model" in notes and world.said == ["Hello"]


def test_turns_that_the_model_was_not_shown_are_told(world):
    long = "What is a cat? " * 5
    world.dialogue.begin(Transcript("", tuple(Exchange(f"{long} {n}", "A cat. " * 9) for n in range(9))))
    _, notes = world.talk(long)
    assert "turns did not fit, and the model was not shown them]" in notes


class Tty(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "colours"),
    [
        (Tty(), {"TERM": "xterm"}, True),
        (Tty(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Tty(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Tty(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colours_only_on_a_terminal_and_where_nobody_objects(stream, environment, colours):
    assert wants_colours(stream, environment) is colours
