"""The service: a tree where nothing is lost, stopping, failing, judging, whose is whose, guardrails, a full disk."""

import threading
from contextlib import ExitStack

import pytest

from rlhf.chat.engine import QueueFull
from rlhf.chat.feedback import KeyReused, NotFound, Rating, StoreBusy, StoreFull
from rlhf.chat.inference.generation import GenerationFailed
from rlhf.chat.records import ReplySettings
from rlhf.chat.service import Refused, TooFast
from rlhf.errors import UserError
from rlhf.records import Message, ask
from tests.chat.world import Gate, chat_config, full_disk, service_on

SHORT = ReplySettings(max_tokens=6)
LONG = ReplySettings(max_tokens=1900)


def said(service, user, conversation, parent, content, settings=SHORT, **more):
    """Say something and wait for the reply."""
    return service.say(user, conversation, parent, content, settings, **more).done()


# --- a tree -----------------------------------------------------------------------------------------------------------


def test_the_stream_is_what_is_stored(service):
    talk = service.create("ann")
    turn = service.say("ann", talk.id, None, "Hello", ReplySettings(max_tokens=6, seed=5, temperature=0.9))
    text = "".join(turn)
    reply = turn.done()
    assert reply == service.store.message(turn.reply_id)
    assert (reply.content, reply.role, reply.parent) == (text, "assistant", turn.user_message.id)
    assert (reply.version, reply.finish_reason, reply.completion_tokens) == ("ppo", "length", 6)
    assert reply.settings["seed"] == 5 and reply.settings["temperature"] == 0.9
    assert "".join(turn) == text  # a second reader sees the same


def test_editing_and_regenerating_lose_nothing(service):
    talk = service.create("ann")
    first = said(service, "ann", talk.id, None, "Hello")
    second = said(service, "ann", talk.id, first.id, "And then?")
    edited = said(service, "ann", talk.id, first.id, "And now?")
    again = service.regenerate("ann", second.id, SHORT).done()
    also = service.regenerate("ann", second.parent, SHORT).done()  # by the user's turn itself
    view = service.conversation("ann", talk.id)
    children = {}
    for message in view.messages:
        children.setdefault(message.parent, []).append(message.id)
    assert len(view.messages) == 8
    assert children[first.id] == [second.parent, edited.parent]
    assert children[second.parent] == [second.id, again.id, also.id]
    assert [message.content for message in service.store.path(edited.id)][::2] == ["Hello", "And now?"]


def test_the_model_is_shown_the_path_and_no_other_branch(service):
    talk = service.create("ann")
    first = said(service, "ann", talk.id, None, "Hello")
    said(service, "ann", talk.id, first.id, "A branch")
    turn = service.say("ann", talk.id, first.id, "Another", SHORT)
    turn.done()
    assert turn.prompt == (Message("user", "Hello"), Message("assistant", first.content), Message("user", "Another"))


def test_the_system_turn_is_shown_and_noted(folder):
    with service_on(folder, chat_config(chat={"system": "Be brief."})) as service:
        turn = service.say("ann", service.create("ann").id, None, "Hello", SHORT)
        assert turn.prompt[0] == Message("system", "Be brief.")
        assert turn.done().settings["system"] == "Be brief."


def test_the_first_message_names_the_conversation(service):
    talk = service.create("ann")
    first = said(service, "ann", talk.id, None, "What is\n a cat? " + "x" * 80)
    said(service, "ann", talk.id, first.id, "Why?")
    [found] = service.conversations("ann")
    assert found.title == "What is a cat? " + "x" * 44 + "…"
    service.rename("ann", talk.id, "Cats")
    assert service.conversation("ann", talk.id).conversation.title == "Cats"
    service.hide("ann", talk.id)
    assert service.conversations("ann") == []


def test_what_cannot_be_answered_is_refused_and_not_stored(service):
    talk = service.create("ann")
    first = service.say("ann", talk.id, None, "Hello", SHORT)
    first.done()
    for parent, content, error in [
        (None, "  \n", UserError),
        ("nothing", "Hello", NotFound),
        (first.user_message.id, "Hello", UserError),
        (None, "word " * 1000, UserError),
    ]:
        with pytest.raises(error):
            service.say("ann", talk.id, parent, content, SHORT)
    with pytest.raises(NotFound):  # a parent in another conversation
        service.say("ann", service.create("ann").id, first.reply_id, "Hello", SHORT)
    assert len(service.conversation("ann", talk.id).messages) == 2


def test_somebody_elses_is_not_found(service):
    talk = service.create("ann")
    reply = said(service, "ann", talk.id, None, "Hello")
    duel = service.duel("ann", None, SHORT)
    for forbidden in (
        lambda: service.conversation("bob", talk.id),
        lambda: service.rename("bob", talk.id, "x"),
        lambda: service.hide("bob", talk.id),
        lambda: service.say("bob", talk.id, reply.id, "Hi", SHORT),
        lambda: service.regenerate("bob", reply.id, SHORT),
        lambda: service.rate("bob", reply.id, Rating(thumb=1)),
        lambda: service.unrate("bob", reply.id),
        lambda: service.vote("bob", duel.done().id, "left"),
    ):
        with pytest.raises(NotFound):
            forbidden()
    assert service.conversations("bob") == []


def test_a_key_sent_again_gives_the_first_answer(service):
    talk = service.create("ann", key="k0")
    assert service.create("ann", key="k0").id == talk.id
    turns = [service.say("ann", talk.id, None, "Hello", SHORT, key="k1") for _ in range(2)]
    assert turns[0].done() == turns[1].done()
    again = [service.regenerate("ann", turns[0].reply_id, SHORT, key="k2").done() for _ in range(2)]
    assert again[0] == again[1]
    duels = [service.duel("ann", None, SHORT, key="k3").done() for _ in range(2)]
    assert duels[0] == duels[1]
    with pytest.raises(KeyReused):
        service.say("ann", talk.id, None, "Something else", SHORT, key="k1")
    assert len(service.conversation("ann", talk.id).messages) == 3


def test_a_reader_who_leaves_does_not_stop_it_for_the_other(service):
    talk = service.create("ann")
    first, second = (service.say("ann", talk.id, None, "Hello", LONG, key="k") for _ in range(2))
    first.close()
    assert second.done().finish_reason == "length" and first.message == second.message
    duels = [service.duel("ann", None, LONG, key="d") for _ in range(2)]
    duels[0].close()
    assert duels[1].done() == service.store.duel(duels[1].id)


@pytest.mark.parametrize("restart", [False, True])
def test_a_reply_whose_readers_had_all_left_is_begun_anew(folder, restart):
    with ExitStack() as stack:
        service = stack.enter_context(service_on(folder, chat_config()))
        talk, hello = service.create("ann"), (Message("user", "Hello"),)
        asked = said(service, "ann", talk.id, None, "Hello")

        def ask_all(service, settings):
            return [
                service.say("ann", talk.id, asked.id, "And?", settings, key="say"),
                service.regenerate("ann", asked.id, settings, key="regenerate"),
                service.complete("ann", hello, None, settings, key="complete"),
                service.duel("ann", "Why?", settings, key="duel"),
            ]

        settings = ReplySettings(max_tokens=1000, temperature=0.7)
        for turn in ask_all(service, settings):
            turn.close()
        assert {reply.finish_reason for reply in service.store.replies()[1:]} == {"cancelled"}
        if restart:
            stack.close()
            service = stack.enter_context(service_on(folder, chat_config()))
        again = ask_all(service, settings)
        assert {turn.done().finish_reason for turn in again[:3]} == {"length"}
        assert again[3].done().choice is None
        turns = [message for message in service.store.messages(talk.id) if message.content == "And?"]
        assert len(turns) == 1  # said once, answered twice


def test_what_failed_is_begun_anew(service):
    talk = service.create("ann")
    turn = service.say("ann", talk.id, None, "Hello", ReplySettings(max_tokens=1900), key="k")
    service.engine.unload("ppo")
    with pytest.raises(GenerationFailed):
        turn.done()
    service.engine.load("ppo", service.run_folder / "ppo")
    assert service.say("ann", talk.id, None, "Hello", SHORT, key="other").done()
    assert service.say("ann", talk.id, None, "Hello", ReplySettings(max_tokens=1900), key="k") is not turn


def test_keys_are_known_after_a_restart(folder):
    with service_on(folder, chat_config()) as service:
        talk = service.create("ann", "Greetings", key="k0")
        assert service.create("ann", "Greetings", key="k0") == talk and talk.title == "Greetings"
        reply = said(service, "ann", talk.id, None, "Hello", key="k1")
        other = service.regenerate("ann", reply.id, SHORT, key="k2").done()
        done = service.complete("ann", ask("Hi"), None, SHORT, key="k3").done()
        duel = service.duel("ann", "Why?", SHORT, key="k4").done()
    with service_on(folder, chat_config()) as service:
        turn = service.say("ann", talk.id, None, "Hello", SHORT, key="k1")
        assert (turn.done(), turn.user_message.id, list(turn)) == (reply, reply.parent, [reply.content])
        assert service.regenerate("ann", reply.id, SHORT, key="k2").done().id == other.id
        again = service.complete("ann", ask("Hi"), None, SHORT, key="k3")
        assert (again.done().id, again.user_message.content) == (done.id, "Hi")
        shown = service.duel("ann", "Why?", SHORT, key="k4")
        sides = [service.store.message(side).content for side in (duel.left, duel.right)]
        assert (shown.done(), shown.id, shown.prompt) == (duel, duel.id, "Why?")
        assert ["".join(shown.left), "".join(shown.right)] == sides
        assert len(service.conversation("ann", talk.id).messages) == 3 and len(service.store.duels()) == 1
        for act in (
            lambda: service.create("ann", "Another", key="k0"),
            lambda: service.regenerate("ann", other.id, SHORT, key="k2"),
            lambda: service.duel("ann", "Why not?", SHORT, key="k4"),
        ):
            with pytest.raises(KeyReused):
                act()


def test_a_program_s_own_conversation(service):
    history = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Yes?"),
        Message("user", "2+2?"),
    )
    reply = service.complete("api", history, "ppo", SHORT).done()
    path = service.store.path(reply.id)
    assert [(message.role, message.content) for message in path[:-1]] == [tuple(turn) for turn in history]
    assert service.store.conversation(reply.conversation).kind == "api"
    assert service.conversations("api") == []
    with pytest.raises(UserError):
        service.complete("api", history[:-1], None, SHORT)
    with pytest.raises(UserError):
        service.complete("api", history, "nobody", SHORT)


# --- stopping, leaving, failing ---------------------------------------------------------------------------------------


def test_stop_stops_the_engine_and_keeps_what_there_is(service):
    turn = service.say("ann", service.create("ann").id, None, "Hello", LONG)
    text = next(iter(turn))
    with pytest.raises(NotFound):
        service.stop("bob", turn.id)
    assert service.stop("ann", turn.id)
    reply = turn.done()
    assert (reply.finish_reason, reply.content[: len(text)]) == ("cancelled", text)
    assert reply.completion_tokens < 1900
    assert "".join(turn) == reply.content == service.store.message(turn.id).content
    assert not service.stop("ann", turn.id)  # it has ended
    assert service.engine.stats().active == 0


def test_a_reader_who_leaves_frees_the_place(service):
    turns = [service.say("ann", service.create("ann").id, None, "Hello", LONG) for _ in range(3)]
    next(iter(turns[0]))
    for turn in turns:
        turn.close()
    assert [turn.message.finish_reason for turn in turns] == ["cancelled"] * 3
    assert service.engine.stats().active == service.engine.stats().waiting == 0
    assert service.answering.running == {}


def test_closing_the_service_stores_what_runs(folder):
    with service_on(folder, chat_config()) as service:
        turn = service.say("ann", service.create("ann").id, None, "Hello", LONG)
        next(iter(turn))
        service.answering.close()
        assert service.store.message(turn.id).finish_reason == "cancelled"


def test_a_reply_that_fails_is_stored_logged_and_raised(service):
    def broken(*_):
        raise RuntimeError("the network is on fire")

    talk = service.create("ann")
    gate = Gate(service.engine, "ppo")
    turn = service.say("ann", talk.id, None, "Hello", LONG)
    assert gate.reached.wait(60)
    with service.engine._fleet.role("ppo") as model:
        hook = model.base_model.register_forward_pre_hook(broken)
    gate.gone()
    with pytest.raises(GenerationFailed):
        list(turn)
    with pytest.raises(GenerationFailed):
        turn.done()
    hook.remove()
    assert service.store.message(turn.id).finish_reason == "error"
    [event] = service.store.events("error")
    assert event.data["version"] == "ppo" and "on fire" in event.data["error"]
    assert said(service, "ann", talk.id, None, "Hello").finish_reason == "length"  # the next one is fine


def test_a_reply_that_takes_too_long_is_stopped(folder):
    with service_on(folder, chat_config(serve={"timeout_s": 0.2})) as service:
        gate = Gate(service.engine, "ppo")
        turn = service.say("ann", service.create("ann").id, None, "Hello", LONG)
        while not turn.timed_out:
            gate.reached.wait(0.01)
        gate.gone()
        reply = turn.done()
        assert (reply.finish_reason, reply.settings["timed_out"]) == ("cancelled", True)
        assert turn.notice == "The reply took too long and was stopped."
        [event] = service.store.events("timeout")
        assert event.data["message"] == reply.id and event.data["finish_reason"] == "cancelled"


def test_nobody_reads_and_it_is_stored_all_the_same(folder):
    with service_on(folder, chat_config(serve={"timeout_s": 0.2})) as service:
        turn = service.say("ann", service.create("ann").id, None, "Hello", SHORT)
        assert turn.ended.wait(60)
        assert service.store.message(turn.id) == turn.message


def test_a_full_queue_refuses_and_stores_nothing(folder):
    with service_on(folder, chat_config(chat={"queue_size": 1, "max_batch": 1})) as service:
        gate, talk = Gate(service.engine, "ppo"), service.create("ann")
        turns = [service.say("ann", talk.id, None, "Hello", SHORT)]
        assert gate.reached.wait(60)
        turns.append(service.say("ann", talk.id, None, "Hello", SHORT))
        with pytest.raises(QueueFull) as refused:
            service.say("ann", talk.id, None, "Hello", SHORT, key="k")
        assert refused.value.retry_after > 0
        gate.gone()
        assert [turn.done().finish_reason for turn in turns] == ["length"] * 2
        assert len(service.conversation("ann", talk.id).messages) == 4
        assert (
            said(service, "ann", talk.id, None, "Hello", key="k").finish_reason == "length"
        )  # what failed may be tried again


def test_many_people_at_a_time_get_their_own_replies(service):
    found = {}

    def talk(user):
        parent, conversation = None, service.create(user)
        for number in range(3):
            reply = said(service, user, conversation.id, parent, f"{user} says {number}")
            parent = reply.id
        found[user] = [message.content for message in service.store.path(parent)][::2]

    threads = [threading.Thread(target=talk, args=(f"user{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {f"user{n}": [f"user{n} says {k}" for k in range(3)] for n in range(12)}


# --- judgements -------------------------------------------------------------------------------------------------------


def test_rating_changing_and_undoing(service):
    talk = service.create("ann")
    reply = said(service, "ann", talk.id, None, "Hello")
    service.rate("ann", reply.id, Rating(thumb=1))
    service.rate("ann", reply.id, Rating(thumb=-1, correction="Hi!"))
    assert service.conversation("ann", talk.id).ratings == {reply.id: Rating(thumb=-1, correction="Hi!")}
    service.unrate("ann", reply.id)
    assert service.conversation("ann", talk.id).ratings == {}
    with pytest.raises(NotFound):
        service.rate("ann", reply.parent, Rating(thumb=1))  # one's own words


# --- guardrails -------------------------------------------------------------------------------------------------------


def test_a_blocked_message_is_answered_politely_and_never_reaches_the_model(folder):
    with service_on(folder, chat_config(guardrails={"requests_per_minute": 60_000, "words": True})) as service:
        talk = service.create("ann")
        turn = service.say("ann", talk.id, None, "You fucking idiot", SHORT)
        reply = turn.done()
        assert reply.blocked and turn.user_message.blocked and reply.version is None
        assert list(turn) == [reply.content]
        assert service.engine.stats().replies == 0
        [event] = service.store.events("blocked")
        assert (event.data["side"], event.data["reason"], event.data["message"]) == (
            "input",
            "words",
            turn.user_message.id,
        )
        after = service.say("ann", talk.id, reply.id, "Hello", SHORT)
        assert after.prompt == ask("Hello")
        after.done()
        assert service.regenerate("ann", reply.id, SHORT).done().blocked  # asked again, answered the same
        service.guardrails.settings = service.guardrails.settings.model_copy(update={"words": False})
        assert service.regenerate("ann", reply.id, SHORT).done().version == "ppo"  # and now it passes
        service.guardrails.settings = service.guardrails.settings.model_copy(update={"words": True})
        assert service.complete("api", ask("You fucking idiot"), None, SHORT).done().blocked


def test_a_correction_that_a_guardrail_blocks_is_refused_and_not_stored(folder):
    with service_on(folder, chat_config(guardrails={"requests_per_minute": 4, "max_characters": 40})) as service:
        reply = said(service, "ann", service.create("ann").id, None, "Hello")
        kept = Rating(thumb=-1, correction="Good morning!")
        for _ in range(9):  # corrections are no messages: no rate holds them up
            service.rate("ann", reply.id, kept)
        for bad, reason in (("You fucking idiot", "words"), ("long " * 10, "length")):
            with pytest.raises(Refused):
                service.rate("ann", reply.id, Rating(correction=bad))
            event = service.store.events("blocked")[-1]
            assert (event.data["side"], event.data["reason"]) == ("correction", reason)
        assert service.store.rating("ann", reply.id) == kept


def test_a_blocked_reply_is_replaced_and_nowhere_kept(folder, monkeypatch):
    with service_on(folder, chat_config(guardrails={"requests_per_minute": 60_000, "words": True})) as service:
        greedy = ReplySettings(temperature=0, max_tokens=40)
        harmless = said(service, "ann", service.create("ann").id, None, "Hello", greedy).content
        secret = harmless[len(harmless) // 2 :]
        monkeypatch.setattr("rlhf.chat.guardrails.is_unsafe", lambda text: secret[:4] in text)
        turn = service.say("ann", service.create("ann").id, None, "Hello", greedy)
        shown = "".join(turn)
        reply = turn.done()
        assert reply.blocked and reply.content != harmless and secret[:4] not in shown and harmless.startswith(shown)
        assert (reply.version, reply.finish_reason) == ("ppo", "stop")
        [event] = service.store.events("blocked")
        assert (event.data["side"], event.data["version"], event.data["message"]) == ("output", "ppo", reply.id)
        assert secret not in service.store.path(reply.id)[-1].content
        shown = []
        submit = service.engine.submit
        monkeypatch.setattr(
            service.engine, "submit", lambda messages, *rest: shown.append(messages) or submit(messages, *rest)
        )
        said(service, "ann", reply.conversation, reply.id, "And now?")
        assert shown == [ask("And now?")]  # neither the polite words, nor a turn without a reply


def test_a_program_s_own_history_is_checked_too(folder):
    guardrails = {"requests_per_minute": 4, "words": True}
    rude = "You fucking idiot"
    with service_on(folder, chat_config(guardrails=guardrails)) as service:
        shown, submit = [], service.engine.submit
        service.engine.submit = lambda messages, *rest: shown.append(messages) or submit(messages, *rest)
        history = (*ask(rude), Message("assistant", "No."), Message("user", "Hi"))
        reply = service.complete("ann", history, None, SHORT).done()
        assert not reply.blocked and shown == [ask("Hi")]
        assert [message.blocked for message in service.store.path(reply.id)] == [True, False, False, False]
        told = (Message("system", rude), *ask("Hi"))
        assert service.complete("bob", told, None, SHORT).done().blocked and len(shown) == 1
        with pytest.raises(TooFast):  # one message, though it was a long history
            service.complete("ann", ask("Hi"), None, SHORT)


def test_who_is_too_fast_is_told_when_to_come_back(folder):
    with service_on(folder, chat_config(guardrails={"requests_per_minute": 4})) as service:
        talk = service.create("ann")
        said(service, "ann", talk.id, None, "Hello")
        with pytest.raises(TooFast) as refused:
            service.say("ann", talk.id, None, "Hello", SHORT)
        assert 0 < refused.value.retry_after <= 15
        assert said(service, "bob", service.create("bob").id, None, "Hello")
        for _ in range(30):
            with pytest.raises(TooFast):
                service.say("ann", talk.id, None, "Hello", SHORT)
        [event] = service.store.events("blocked")  # each line costs a write to the disk
        assert (event.data["reason"], event.data["user"], event.data["count"]) == ("rate", "ann", 1)
        service.replies.close()
        assert [event.data["count"] for event in service.store.events("blocked")] == [1, 30]


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_on_a_full_disk_the_chat_goes_on(service):
    talk = service.create("ann")
    first = said(service, "ann", talk.id, None, "Hello")
    with full_disk():
        turn = service.say("ann", talk.id, first.id, "And?", SHORT)
        reply = turn.done()
        assert (
            not turn.kept
            and turn.notice == "This reply is shown, but it is not kept: the disk is full."
            and "".join(turn) == reply.content
        )
        more = service.say("ann", talk.id, reply.id, "More", SHORT)
        assert len(more.prompt) == 5 and not more.done().blocked and not more.kept
        assert len(service.conversation("ann", talk.id).messages) == 6
        with pytest.raises(StoreFull):
            service.rate("ann", reply.id, Rating(thumb=1))
        new = service.say("ann", service.create("ann").id, None, "A new one", SHORT)
        assert new.done() and not new.kept
        with pytest.raises(StoreFull):
            service.duel("ann", None, SHORT).done()
    assert len(service.store.messages(talk.id)) == 2
    service.rate("ann", reply.id, Rating(thumb=1))  # there is room again: what was said is written first
    assert [message.content for message in service.store.path(more.id)] == [
        "Hello", first.content, "And?", reply.content, "More", more.message.content,
    ]  # fmt: skip
    assert said(service, "ann", talk.id, more.id, "Last").parent


def test_a_message_that_is_kept_is_answered_though_its_title_cannot_be_written(service, monkeypatch):
    def busy(*_):
        raise StoreBusy("busy")

    monkeypatch.setattr(service.store, "rename", busy)
    turn = service.say("ann", service.create("ann").id, None, "Hello", SHORT)
    assert turn.done() and turn.kept and turn.notice is None


def test_health_generates_a_token(service):
    health = service.health()
    assert (health["status"], health["version"]) == ("ok", "ppo") and health["seconds"] > 0
    assert service.engine.stats().tokens == 1
