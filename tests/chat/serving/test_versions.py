"""Versions that come and go while the server runs: loaded, retired, fallen back on, promoted; chats that stay."""

import shutil
from collections import Counter
from dataclasses import replace

import pytest

from rlhf.chat.feedback import Rating, StoreBusy, StoredMessage, new_id
from rlhf.chat.records import ReplySettings
from rlhf.errors import UserError
from rlhf.registry import Registry
from tests.chat.world import add_challenger, chat_config, service_on

SHORT = ReplySettings(max_tokens=3)


def answer(service, user="ann", conversation=None, parent=None):
    talk = conversation or service.create(user).id
    return service.say(user, talk, parent, "Hello", SHORT).done()


def test_without_a_challenger_everything_goes_to_the_live_version(service):
    reply = answer(service)
    assert (reply.version, reply.routed, reply.uniform) == ("ppo", None, False)
    assert service.store.conversation(reply.conversation).version == "ppo"


def test_a_challenger_is_picked_up_and_conversations_stick(service, folder, tokenizer):
    before = answer(service)
    registry = add_challenger(folder, tokenizer)
    assert service.engine.versions == ("ppo",)
    service.check_versions()
    assert service.engine.versions == ("ppo", "v1") and service.serving.arms == ("ppo", "v1")
    firsts = [answer(service, f"user{number}") for number in range(40)]
    shares = Counter(reply.version for reply in firsts)
    assert set(shares) == {"ppo", "v1"} and min(shares.values()) >= 5  # half each: fewer has chance 2e-6
    assert {reply.routed for reply in firsts} == {0.5}
    for first in firsts[:10]:
        user = service.store.conversation(first.conversation).user
        second = answer(service, user, first.conversation, first.id)
        assert (second.version, second.routed, second.uniform) == (first.version, first.routed, first.uniform)
    after = answer(service, "ann", before.conversation, before.id)  # began before there was a choice
    assert (after.version, after.routed) == ("ppo", None)
    assert registry.live().name == "ppo"


def test_the_choice_is_known_after_a_restart(folder, tokenizer):
    add_challenger(folder, tokenizer)
    with service_on(folder, chat_config()) as service:
        firsts = [answer(service) for _ in range(6)]
    with service_on(folder, chat_config()) as service:
        for first in firsts:
            second = answer(service, "ann", first.conversation, first.id)
            assert (second.version, second.routed, second.uniform) == (first.version, first.routed, first.uniform)


def test_a_retired_version_s_conversations_move_to_the_live_one(folder, tokenizer):
    registry = add_challenger(folder, tokenizer)
    with service_on(folder, chat_config(routing={"challenger_share": 1.0, "uniform_share": 0.1})) as service:
        first = next(reply for reply in (answer(service) for _ in range(100)) if reply.version == "v1")
        assert first.routed == pytest.approx(0.95)
        registry.retire("v1")
        service.check_versions()
        assert service.engine.versions == ("ppo",)
        second = answer(service, "ann", first.conversation, first.id)
        assert (second.version, second.routed) == ("ppo", None)
        assert service.store.conversation(first.conversation).version == "ppo"


def test_promotion_and_rollback_are_picked_up(service, folder, tokenizer):
    registry = add_challenger(folder, tokenizer)
    registry.promote("v1")
    service.check_versions()
    assert service.engine.versions == ("v1",) and answer(service).version == "v1"
    registry.rollback()
    service.check_versions()
    assert service.engine.versions == ("ppo",) and answer(service).version == "ppo"


def test_a_version_is_not_unloaded_while_it_answers(service, folder, tokenizer):
    turn = service.say("ann", service.create("ann").id, None, "Hello", ReplySettings(max_tokens=1900))
    next(iter(turn))
    add_challenger(folder, tokenizer).promote("v1")
    service.check_versions()
    assert set(service.engine.versions) == {"ppo", "v1"}
    turn.close()
    assert turn.message.finish_reason == "cancelled"
    service.check_versions()
    assert service.engine.versions == ("v1",)


def test_a_version_is_not_unloaded_before_its_reply_is_stored(service, folder, tokenizer, monkeypatch):
    """The question is written to the disk between asking the engine and having a turn."""
    registry, add = add_challenger(folder, tokenizer), service.keeper.add

    def slowly(message, key=None):
        if message.role == "user":
            registry.promote("v1")
            service.check_versions()
        return add(message, key)

    monkeypatch.setattr(service.keeper, "add", slowly)
    talk = service.create("ann").id
    reply = service.say("ann", talk, None, "Hello", ReplySettings(max_tokens=300)).done()
    assert (reply.version, reply.finish_reason) == ("ppo", "length")
    service.check_versions()
    assert service.engine.versions == ("v1",)


def test_what_fails_while_the_registry_is_followed_is_tried_again(service, folder, tokenizer, monkeypatch, caplog):
    add_challenger(folder, tokenizer)

    def busy(**_):
        raise StoreBusy("busy")

    with monkeypatch.context() as patched:
        patched.setattr(service.store, "replies", busy)
        for _ in range(3):
            service.check_versions()
    assert service.serving.arms == ("ppo",) and caplog.text.count("cannot be checked") == 1
    service.check_versions()
    assert service.serving.arms == ("ppo", "v1")


def test_a_challenger_that_cannot_be_loaded_is_retired(service, folder, tokenizer):
    registry = add_challenger(folder, tokenizer)
    (folder / "versions" / "v1" / "config.json").write_text("{}")
    service.check_versions()
    assert registry.get("v1").state == "retired" and service.serving.arms == ("ppo",)
    assert [event.data["version"] for event in service.store.events("fallback")] == ["v1"]
    assert answer(service).version == "ppo"


def test_where_the_live_version_cannot_be_loaded_sft_answers_and_says_so(service, folder, tokenizer, caplog):
    add_challenger(folder, tokenizer).promote("v1")
    (folder / "versions" / "v1" / "model.safetensors").write_bytes(b"x")
    service.check_versions()
    assert answer(service).version == "sft"
    assert "THE LIVE VERSION v1 CANNOT BE LOADED; sft answers in its place" in caplog.text
    [event] = service.store.events("fallback")
    assert (event.data["version"], event.data["instead"]) == ("v1", "sft")


def test_where_nothing_can_be_loaded_what_answers_goes_on(service, folder, tokenizer):
    add_challenger(folder, tokenizer).promote("v1")
    for name in ("sft", "versions/v1"):
        (folder / name / "model.safetensors").write_bytes(b"x")
    service.check_versions()
    assert answer(service).version == "ppo"


def test_a_server_does_not_start_without_a_version(folder):
    shutil.rmtree(folder / "sft")
    shutil.rmtree(folder / "ppo")
    with pytest.raises(UserError):
        Registry(folder).live()


def test_a_damaged_registry_changes_nothing(service, folder, tokenizer, caplog):
    registry = add_challenger(folder, tokenizer)
    registry.file.write_text("{")
    service.check_versions()
    assert service.serving.arms == ("ppo",) and answer(service).version == "ppo"
    assert "cannot be checked" in caplog.text


def misbehave(service, version, number, fails):
    """Replies of a version as a server has noted them."""
    service.answering.conduct[version].extend(place < fails for place in range(number))


def test_a_challenger_that_misbehaves_gives_way_to_sft(folder, tokenizer):
    registry = add_challenger(folder, tokenizer)
    routing = {"fallback_after": 10, "fallback_rate": 0.2, "challenger_share": 1.0}
    with service_on(folder, chat_config(routing=routing)) as service:
        first = next(reply for reply in (answer(service) for _ in range(9)) if reply.version == "v1")
        service.answering.conduct["v1"].clear()
        misbehave(service, "v1", 9, 9)
        service.check_versions()
        assert service.serving.arms == ("ppo", "v1")  # too few to judge
        misbehave(service, "v1", 31, 0)
        service.check_versions()
        assert registry.get("v1").state == "retired"  # 9 of 40 are more than a fifth
        second = answer(service, "ann", first.conversation, first.id)
        assert (second.version, second.routed) == ("sft", None)
        assert answer(service).version == "ppo"  # new conversations
        assert set(service.engine.versions) == {"ppo", "sft"}
        [event] = service.store.events("fallback")
        assert (event.data["version"], event.data["instead"], event.data["reason"]) == ("v1", "sft", "misbehaves")


@pytest.mark.parametrize("automatic", [True, False])
def test_without_an_sft_version_a_challenger_that_misbehaves_goes_all_the_same(folder, tokenizer, automatic):
    shutil.rmtree(folder / "sft")
    registry = add_challenger(folder, tokenizer)
    assert [version.name for version in Registry(folder).versions()] == ["ppo", "v1"]
    routing = {"fallback_after": 10, "challenger_share": 1.0, "automatic": automatic}
    with service_on(folder, chat_config(routing=routing)) as service:
        first = next(reply for reply in (answer(service) for _ in range(50)) if reply.version == "v1")
        misbehave(service, "v1", 10, 10)
        service.check_versions()
        assert registry.get("v1").state == "retired" and service.serving.arms == ("ppo",)
        assert service.engine.versions == ("ppo",)  # and it is unloaded
        assert answer(service, "ann", first.conversation, first.id).version == "ppo"
        [event] = service.store.events("fallback")
        assert (event.data["version"], event.data["instead"], event.data["reason"]) == ("v1", "ppo", "misbehaves")


def test_without_an_sft_version_what_answers_goes_on(folder, tokenizer, caplog):
    shutil.rmtree(folder / "sft")
    with service_on(folder, chat_config()) as service:
        add_challenger(folder, tokenizer).promote("v1")
        (folder / "versions" / "v1" / "model.safetensors").write_bytes(b"x")
        for _ in range(3):
            service.check_versions()
        assert answer(service).version == "ppo"
        assert len(service.store.events("load_failed")) == 1 and "cannot be checked" not in caplog.text


AUTOMATIC = {"fallback_after": 10, "automatic": True}


def test_a_promoted_version_that_misbehaves_is_rolled_back(folder, tokenizer, caplog):
    registry = add_challenger(folder, tokenizer)
    with service_on(folder, chat_config(routing=AUTOMATIC)) as service:
        misbehave(service, "v1", 9, 9)  # as a challenger: not enough to judge it
        registry.promote("v1")
        service.check_versions()
        first = answer(service)
        misbehave(service, "v1", 9, 2)
        service.check_versions()
        assert registry.live().name == "v1"  # 2 of 10 are no more than a fifth
        misbehave(service, "v1", 1, 1)
        service.check_versions()
        assert (registry.live().name, registry.get("v1").state) == ("ppo", "retired")
        assert service.engine.versions == ("ppo",)
        assert answer(service, "ann", first.conversation, first.id).version == "ppo"
        assert "THE LIVE VERSION v1 MISBEHAVES; it is retired, and ppo is live in its place" in caplog.text
        [event] = service.store.events("fallback")
        assert (event.data["version"], event.data["instead"], event.data["reason"]) == ("v1", "ppo", "misbehaves")
        registry.promote("v1")  # by hand: another chance
        service.check_versions()
        service.check_versions()
        assert registry.live().name == "v1"


def test_where_the_version_before_does_no_better_nothing_more_is_rolled_back(folder, tokenizer):
    """A fault of the machine must not lead step by step to the SFT version; after a restart neither."""
    registry = add_challenger(folder, tokenizer)
    registry.promote("v1")
    with service_on(folder, chat_config(routing=AUTOMATIC)) as service:
        for name in ("v1", "ppo"):
            misbehave(service, name, 10, 10)
            service.check_versions()
            assert registry.live().name == "ppo"
    with service_on(folder, chat_config(routing=AUTOMATIC)) as service:
        misbehave(service, "ppo", 10, 10)
        service.check_versions()
        assert registry.live().name == "ppo"
        registry.promote("v1")  # by hand: the server may step in again
        service.check_versions()
        misbehave(service, "v1", 10, 10)
        service.check_versions()
        assert registry.live().name == "ppo"
        assert len(service.store.events("fallback")) == 2


def test_the_test_compares_what_both_were_asked_on_the_same_days(folder, tokenizer):
    """Judgements from before the live version became live have no counterpart of its own."""
    registry = add_challenger(folder, tokenizer)
    with service_on(folder, chat_config(routing={"uniform_share": 1.0})) as service:

        def judged(count):
            for number in range(count):
                reply = answer(service, f"user{number}")
                service.rate(f"user{number}", reply.id, Rating(thumb=1))

        judged(12)
        before = service.serving.verdict("v1")
        assert before.n_challenger + before.n_live == 12
        registry.promote("sft")
        service.check_versions()
        anew = service.serving.verdict("v1")
        assert service.serving.arms == ("sft", "v1") and anew.n_challenger + anew.n_live == 0
        judged(10)
        assert sum((service.serving.verdict("v1").n_challenger, service.serving.verdict("v1").n_live)) == 10


def test_nothing_is_rolled_back_where_nobody_allowed_it(folder, tokenizer):
    registry = add_challenger(folder, tokenizer)
    registry.promote("v1")
    with service_on(folder, chat_config(routing={"fallback_after": 10})) as service:
        misbehave(service, "v1", 30, 30)
        service.check_versions()
        assert registry.live().name == "v1" == answer(service).version


def test_where_none_was_live_before_sft_is_the_last_resort_and_stays(folder):
    registry = Registry(folder)
    with service_on(folder, chat_config(routing=AUTOMATIC)) as service:
        for name in ("ppo", "sft"):
            misbehave(service, name, 10, 10)
            service.check_versions()
            assert registry.live().name == "sft" == answer(service).version
        assert len(service.store.events("fallback")) == 1


def test_where_nothing_can_take_its_place_the_live_version_stays_and_it_is_said_once(folder, caplog):
    shutil.rmtree(folder / "sft")
    with service_on(folder, chat_config(routing=AUTOMATIC)) as service:
        misbehave(service, "ppo", 10, 10)
        for _ in range(3):
            service.check_versions()
        assert answer(service).version == "ppo"
    assert caplog.text.count("THE LIVE VERSION ppo MISBEHAVES, and nothing can take its place") == 1


def test_a_live_version_that_stands_in_for_another_is_not_rolled_back(folder, tokenizer):
    with service_on(folder, chat_config(routing=AUTOMATIC)) as service:
        registry = add_challenger(folder, tokenizer)
        registry.promote("v1")
        for name in ("sft", "versions/v1"):  # ppo goes on
            (folder / name / "model.safetensors").write_bytes(b"x")
        service.check_versions()
        misbehave(service, "ppo", 10, 10)
        service.check_versions()
        assert registry.live().name == "v1" and answer(service).version == "ppo"


def test_a_challenger_that_fails_in_earnest_is_noticed(folder, tokenizer):
    registry = add_challenger(folder, tokenizer)
    routing = {"fallback_after": 3, "fallback_rate": 0.5, "challenger_share": 1.0}
    with service_on(folder, chat_config(routing=routing)) as service:

        def broken(*_):
            raise RuntimeError("on fire")

        with service.engine._fleet.role("v1") as model:
            model.base_model.register_forward_pre_hook(broken)
        for _ in range(12):
            turn = service.say("ann", service.create("ann").id, None, "Hello", SHORT)
            turn.settle()
        service.check_versions()
        assert registry.get("v1").state == "retired"
        assert answer(service).version == "ppo"


def test_how_a_challenger_behaved_before_is_remembered(folder, tokenizer):
    registry = add_challenger(folder, tokenizer)
    with service_on(folder, chat_config()) as service:
        talk = service.create("ann").id
        asked = service.store.add_message(StoredMessage(new_id(), talk, None, "user", "Hello"))
        how = [("stop", False, {}), ("error", False, {}), ("stop", True, {}), ("cancelled", False, {})]
        how += [("cancelled", False, {"timed_out": True}), ("length", False, {})]
        for reason, blocked, settings in how:
            reply = StoredMessage(new_id(), talk, asked.id, "assistant", "Hi", version="v1", finish_reason=reason)
            service.store.add_message(replace(reply, blocked=blocked, settings=settings))
    with service_on(folder, chat_config(routing={"fallback_after": 5, "fallback_rate": 0.59})) as service:
        assert list(service.answering.conduct["v1"]) == [False, True, True, True, False]
        service.check_versions()
        assert registry.get("v1").state == "retired"  # 3 of 5


@pytest.mark.parametrize(("thumb", "state"), [(1, "live"), (-1, "retired")])
def test_the_test_decides_where_it_may(folder, tokenizer, thumb, state):
    registry = add_challenger(folder, tokenizer)
    routing = {"uniform_share": 1.0}
    with service_on(folder, chat_config(routing=routing)) as service:
        for number in range(80):
            reply = answer(service, f"user{number}")
            liked = thumb if reply.version == "v1" else -thumb
            service.rate(f"user{number}", reply.id, Rating(thumb=liked))
        service.check_versions()
        assert registry.get("v1").state == "candidate"  # nobody allowed it
        [noted] = service.store.events("decided")
        assert (noted.data["version"], noted.data["against"]) == ("v1", "ppo")
        for number, judged in enumerate(service.store.rated()):
            if number % 2:  # what is taken back later undoes no decision
                service.unrate(judged.user, judged.message.id)
        service.check_versions()
        assert len(service.store.events("decided")) == 1
    with service_on(folder, chat_config(routing=routing | {"automatic": True})) as service:
        service.check_versions()
        assert registry.get("v1").state == state
        [event] = service.store.events("promoted" if state == "live" else "retired")
        assert (event.data["difference"] > 0.5) == (thumb > 0)
        assert service.serving.arms == (("v1",) if state == "live" else ("ppo",))


def test_watching_picks_changes_up_by_itself(folder, tokenizer):
    with service_on(folder, chat_config()) as service:
        service.watch(every_s=0.01)
        add_challenger(folder, tokenizer)
        for _ in range(6000):
            if "v1" in service.serving.arms:
                break
            service._stopping.wait(0.01)
        assert service.serving.arms == ("ppo", "v1")
