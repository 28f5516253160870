"""Turns: many readers, one end; checks that hold back, block and fail; deadlines."""

import threading
import time
from types import SimpleNamespace

import pytest

from rlhf.chat.feedback import StoredMessage
from rlhf.chat.guardrails import Guardrails
from rlhf.chat.records import ReplySettings
from rlhf.chat.serving.turns import Deadlines, Ending, Turn
from rlhf.chat.settings import GuardrailSection
from rlhf.records import ask
from tests.chat.world import Gate

ASKED = StoredMessage("q", "c", None, "user", "Hello")


@pytest.fixture
def engine(service):
    return service.engine


def turn_on(engine, check=None, tokens=20, endings=None, seed=1):
    """A turn of a real generation that notes its endings."""
    endings = [] if endings is None else endings

    def finish(turn: Turn, ending: Ending) -> StoredMessage:
        endings.append(ending)
        return StoredMessage(turn.id, "c", "q", "assistant", ending.block.reply if ending.block else ending.text)

    settings = ReplySettings(max_tokens=tokens, seed=seed, temperature=1.0)
    return Turn("ann", ASKED, "r", engine.submit(ask("Hello"), "ppo", settings), check, finish)


def test_all_readers_see_all_of_it_and_it_ends_once(engine):
    endings, found = [], []
    turn = turn_on(engine, tokens=60, endings=endings)
    threads = [threading.Thread(target=lambda: found.append("".join(turn))) for _ in range(6)]
    for thread in threads:
        thread.start()
    message = turn.done()
    for thread in threads:
        thread.join()
    assert set(found) == {message.content} and len(endings) == 1
    assert endings[0].reply.text == message.content and endings[0].reply.completion_tokens == 60


def test_nobody_waits_for_an_end_that_could_not_be_stored(engine):
    def finish(turn, ending):
        raise RuntimeError("no room")

    turn = Turn("ann", ASKED, "r", engine.submit(ask("Hello"), "ppo", ReplySettings(max_tokens=3)), None, finish)
    with pytest.raises(RuntimeError, match="no room"):
        turn.done()
    assert turn.ended.is_set()
    turn.close()


def test_a_check_that_fails_lets_nothing_through(engine):
    class Broken:
        block = None

        def add(self, delta):
            raise ValueError("the classifier is on fire")

        finish = add

        def __call__(self):
            return self

    broken, endings = Broken(), []
    broken.finish = lambda: broken.add("")
    turn = turn_on(engine, broken, tokens=1000, endings=endings)
    with pytest.raises(ValueError, match="on fire"):
        turn.done()
    assert turn.shown == "" and endings[0].text == "" and endings[0].reply is None
    deadline = time.monotonic() + 60
    while engine.stats().active and time.monotonic() < deadline:
        time.sleep(0.001)
    assert engine.stats().active == 0  # and the engine has stopped


def test_unfinished_words_are_held_back(engine):
    guardrails = Guardrails(GuardrailSection(words=False))
    turn = turn_on(engine, guardrails.while_written(), tokens=40)
    text = turn.done().content
    assert "".join(turn) == text and turn.pieces <= 41


def test_a_finished_turn(engine):
    said = StoredMessage("r", "c", "q", "assistant", "No.", blocked=True)
    turn = Turn.finished("ann", ASKED, said)
    assert turn.kept and turn.notice is None
    turn.unkept("the feedback store is busy")
    assert (list(turn), turn.done(), turn.version, turn.kept) == (["No."], said, None, False)
    assert turn.notice == "This reply is shown, but it is not kept: the feedback store is busy." and not turn.cancel()
    turn.close()


def test_the_last_reader_who_leaves_stops_it(engine):
    turn = turn_on(engine, tokens=1000)
    assert turn.join()
    turn.close()
    assert not turn.given_up and not turn.ended.is_set() and "".join(turn)
    stopped = turn_on(engine, tokens=1000)
    stopped.close()
    assert stopped.given_up and stopped.ended.is_set() and not stopped.join()
    turn.close()
    assert turn.join() and not turn.given_up  # it had ended before


def test_what_its_reader_stopped_is_not_begun_anew(engine):
    turn = turn_on(engine, tokens=1000)
    assert turn.cancel()
    turn.close()
    assert not turn.given_up and turn.join()


def test_a_turn_is_over_in_time_though_the_engine_hangs(engine, monkeypatch):
    monkeypatch.setattr("rlhf.chat.serving.turns.PATIENCE", 0.01)
    endings, gate = [], Gate(engine, "ppo")
    turn = turn_on(engine, tokens=1000, endings=endings)
    reader = threading.Thread(target=turn.settle)
    reader.start()
    assert gate.reached.wait(60)
    turn.expire()
    reader.join(60)
    assert not reader.is_alive() and turn.timed_out and endings[0].reply.finish_reason == "cancelled"
    gate.gone()
    assert engine.reply(ask("Hello"), "ppo", ReplySettings(max_tokens=3)).completion_tokens == 3  # and it goes on


def test_deadlines_end_what_is_due_and_nothing_else():
    ended = []

    def late(name):
        one = SimpleNamespace(ended=threading.Event())
        one.expire = lambda: (ended.append(name), one.ended.set())
        return one

    deadlines = Deadlines(0.05)
    done, first, second = late("done"), late("first"), late("second")
    done.ended.set()
    for one in (done, first, second):
        deadlines.watch(one)
    assert first.ended.wait(60) and second.ended.wait(60)
    assert ended == ["first", "second"]
    deadlines.close()
    patient = Deadlines(3600)
    patient.watch(late("never"))
    patient.close()
    assert ended == ["first", "second"]
