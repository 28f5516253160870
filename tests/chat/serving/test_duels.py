"""Duels: two answers that differ, sides by chance, no names before the vote, prompts of one's own or unsure ones."""

import random
import threading
import time
from collections import Counter

import pytest

from rlhf.chat.engine import QueueFull
from rlhf.chat.feedback import NotFound
from rlhf.chat.inference.generation import GenerationFailed
from rlhf.chat.records import ReplySettings
from rlhf.chat.serving.attempt import Attempt, Left, NoDuel
from rlhf.chat.serving.duels import Arm, Offer, Refused
from rlhf.chat.serving.scorer import Judged
from rlhf.errors import UserError
from rlhf.records import Message, ask
from tests.chat.world import PROMPTS, Gate, add_challenger, chat_config, save_reward, service_on

SHORT = ReplySettings(max_tokens=5)
PATIENT = Attempt(lambda: False, seconds=3600)


def test_two_answers_at_a_time_stored_with_the_duel(service):
    gate, begun = Gate(service.engine, "ppo"), []
    opener = threading.Thread(target=lambda: begun.append(service.duel("ann", None, SHORT)))
    opener.start()
    while service.engine.stats().active + service.engine.stats().waiting < 2:
        time.sleep(0.001)
    gate.gone()
    opener.join()
    [turn] = begun
    left, right = "".join(turn.left), "".join(turn.right)
    duel = turn.done()
    assert left != right
    assert (duel.id, duel.chosen_by, duel.user, duel.choice) == (turn.id, "random", "ann", None)
    stored = [service.store.message(side) for side in (duel.left, duel.right)]
    assert [message.content for message in stored] == [left, right]
    assert stored[0].settings["seed"] != stored[1].settings["seed"]
    assert [message.version for message in stored] == ["ppo", "ppo"]
    path = service.store.path(duel.left)
    assert path[0].content == turn.prompt and path[0].id == duel.prompt_message
    assert service.store.conversation(path[0].conversation).kind == "duel"
    assert service.conversations("ann") == []


def test_names_come_with_the_vote_and_undo(service):
    duel = service.duel("ann", "What is a cat?", SHORT).done()
    assert (duel.chosen_by, service.store.message(duel.prompt_message).content) == ("asked", "What is a cat?")
    with pytest.raises(NotFound):
        service.vote("bob", duel.id, "left")
    result = service.vote("ann", duel.id, "left", 1200)
    assert (result.duel.choice, result.duel.latency_ms) == ("left", 1200)
    assert (result.left_version, result.right_version) == ("ppo", "ppo")
    assert service.unvote("ann", duel.id).choice is None
    with pytest.raises(UserError):
        service.vote("ann", duel.id, "middle")


def test_versions_meet_half_of_the_time_and_sides_are_drawn(folder, tokenizer):
    add_challenger(folder, tokenizer)
    with service_on(folder, chat_config()) as service:
        duels = service.arena.duels
        duels.rng = random.Random(4)
        pairs = Counter(tuple(arm.version for arm in duels.draw()) for _ in range(4000))
        # 4 standard deviations of a count of 2000 (p = 1/2) and of 1000 (p = 1/4)
        assert abs(pairs["ppo", "ppo"] - 2000) < 127
        assert abs(pairs["ppo", "v1"] - 1000) < 110 and abs(pairs["v1", "ppo"] - 1000) < 110
        assert sum(pairs.values()) == 4000 and ("v1", "v1") not in pairs
        seeds = [arm.seed for _ in range(50) for arm in duels.draw()]
        assert len(set(seeds)) == 100


def settings_of(service, turn):
    return [service.store.message(side).settings for side in (turn.done().left, turn.duel.right)]


def test_greedy_duels_are_sampled(folder):
    with service_on(folder, chat_config(chat={"temperature": 0})) as service:
        turn = service.duel("ann", None, SHORT)
        assert [one["temperature"] for one in settings_of(service, turn)] == [0.7, 0.7]


def test_nobody_chooses_how_a_duel_is_sampled(service):
    """With the seed one could have each version say the same again, and would know whose answer is whose."""
    mine = ReplySettings(temperature=0.01, top_p=0.5, seed=11, max_tokens=5, stop=("zzz",))
    seeds = set()
    for _ in range(2):
        for one in settings_of(service, service.duel("ann", "Why?", mine)):
            assert (one["temperature"], one["top_p"]) == (service.config.chat.temperature, service.config.chat.top_p)
            assert (one["max_tokens"], one["stop"]) == (5, ["zzz"])
            seeds.add(one["seed"])
    assert len(seeds) == 4 and not seeds & {11, 12}


def test_a_vote_that_is_changed_when_the_names_are_known_is_marked(service):
    first, second = (service.duel("ann", None, SHORT).done() for _ in range(2))
    assert service.vote("ann", first.id, "left").duel.blind
    assert service.vote("ann", first.id, "left").duel.blind  # sent again
    assert not service.vote("ann", first.id, "right").duel.blind
    assert service.vote("ann", second.id, "left").duel.blind
    service.unvote("ann", second.id)
    assert not service.vote("ann", second.id, "left").duel.blind


def test_equal_answers_are_drawn_again(service):
    same = (Arm("ppo", 3), Arm("ppo", 3))
    turn = service.arena.duels.begin("ann", Offer("Why?", ask("Why?"), "asked", same), SHORT, PATIENT)
    seeds = [service.store.message(side).settings["seed"] for side in (turn.done().left, turn.duel.right)]
    assert 3 not in seeds and seeds[0] != seeds[1]
    assert len(service.store.duels()) == 1
    assert service.engine.stats().replies == 4
    assert service.answering.running == {}


def test_where_answers_never_differ_there_is_no_duel(folder):
    with service_on(folder, chat_config(chat={"top_p": 1e-9})) as service:  # only the likeliest token
        with pytest.raises(NoDuel):
            service.duel("ann", "Why?", SHORT)
        assert service.engine.stats().replies == 2 * 3
        with pytest.raises(NoDuel):
            service.duel("ann", None, SHORT)  # after another prompt
        assert service.engine.stats().replies == 2 * 3 * (1 + 2)
        assert service.store.duels() == []


def test_a_duel_that_nobody_waits_for_is_not_begun(service):
    gate, left, caught = Gate(service.engine, "ppo"), threading.Event(), []

    def begin() -> None:
        with pytest.raises(Left) as raised:
            service.duel("ann", None, ReplySettings(max_tokens=1900), left=left.is_set)
        caught.append(raised)

    offered = service.next_duel_prompt("ann")
    beginner = threading.Thread(target=begin)
    beginner.start()
    assert gate.reached.wait(60)
    left.set()  # before the first token
    running = list(service.answering.running.values())
    while not all(turn.given_up or turn._generation.cancelled for turn in running):
        time.sleep(0.001)
    gate.gone()
    beginner.join(60)
    assert caught and service.answering.running == {} and service.store.duels() == []
    assert service.engine.stats().replies <= 2  # nothing was drawn again
    assert service.next_duel_prompt("ann") == offered


def test_the_beginning_of_a_duel_has_one_deadline(folder):
    with service_on(folder, chat_config(chat={"top_p": 1e-9})) as service:
        offer = Offer("Why?", ask("Why?"), "asked")
        with pytest.raises(NoDuel, match="within 0 s"):
            service.arena.duels.begin("ann", offer, SHORT, Attempt(lambda: False, seconds=0))
        assert service.engine.stats().replies == 0
        long = ReplySettings(max_tokens=1900, top_p=1e-9)  # equal to the end, which is far
        with pytest.raises(NoDuel, match="within 0.01 s"):
            service.arena.duels.begin("ann", offer, long, Attempt(lambda: False, seconds=0.01))
        assert service.engine.stats().replies <= 2 and service.answering.running == {}


def test_a_duel_that_is_refused_keeps_its_offer(service, monkeypatch):
    offered = service.next_duel_prompt("ann")

    def full(*_: object, **__: object) -> None:
        raise QueueFull(64, 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(service.engine, "submit", full)
        with pytest.raises(QueueFull):
            service.duel("ann", None, SHORT)
    assert service.arena._offers["ann"] == offered
    assert service.duel("ann", None, SHORT).prompt == offered.prompt


def test_two_duels_at_once_of_one_user(service):
    class Slow(dict):
        """Lets every thread look before the first one takes."""

        def get(self, *args):
            found = super().get(*args)
            together.wait(60)
            return found

    together, found = threading.Barrier(2), []
    offered = service.next_duel_prompt("ann")
    service.arena._offers = Slow(service.arena._offers)
    threads = [threading.Thread(target=lambda: found.append(service.arena._offer("ann", None))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and offered in found


def test_what_both_say_alike_is_held_back_until_they_differ(folder, tokenizer):
    with service_on(folder, chat_config()) as service:
        for _ in range(5):
            turn = service.duel("ann", None, SHORT)
            a, b = turn.left.shown, turn.right.shown
            assert a != b


def test_a_duel_whose_reader_leaves_is_not_stored(service):
    turn = service.duel("ann", None, ReplySettings(max_tokens=1900))
    with pytest.raises(NotFound):
        service.stop("bob", turn.id)
    assert service.stop("ann", turn.id)
    turn.close()
    with pytest.raises(NoDuel):
        turn.done()
    assert service.store.duels() == [] and service.engine.stats().active == 0
    assert service.answering.conduct["ppo"] == service.answering.conduct["nobody"]  # it says nothing of the version


def test_a_failing_side_fails_the_duel(service):
    turn = service.duel("ann", None, ReplySettings(max_tokens=1900))
    service.engine.unload("ppo")
    with pytest.raises(GenerationFailed):
        turn.done()
    assert service.store.duels() == []


def test_guardrails_hold_for_duels(folder):
    guardrails = {"requests_per_minute": 60_000, "words": True}
    with service_on(folder, chat_config(guardrails=guardrails)) as service:
        with pytest.raises(Refused):
            service.duel("ann", "You fucking idiot", SHORT)
        assert [event.data["reason"] for event in service.store.events("blocked")] == ["words"]
        assert service.store.duels() == []


def test_prompts_of_ours_that_a_guardrail_blocks_are_taken_out_once(folder):
    rude = PROMPTS[0].__class__("x", ask("You fucking idiot"), "", "lists")
    guardrails = {"requests_per_minute": 60_000, "words": True}
    with service_on(folder, chat_config(guardrails=guardrails), prompts=[rude, PROMPTS[0]]) as service:
        assert {service.deck.next().prompt for _ in range(40)} == {PROMPTS[0].prompt[0].content}
        [event] = service.store.events("blocked")
        assert (event.data["side"], event.data["prompt"]) == ("deck", "You fucking idiot")
    with service_on(folder, chat_config(guardrails=guardrails), prompts=[rude]) as service:
        with pytest.raises(UserError, match="no prompts"):
            service.next_duel_prompt("ann")


def test_a_duel_costs_one_message(folder):
    with service_on(folder, chat_config(guardrails={"requests_per_minute": 4}, chat={"top_p": 1e-9})) as service:
        with pytest.raises(NoDuel):  # and not TooFast, though two prompts were tried
            service.duel("ann", None, SHORT)


def test_a_duel_is_on_the_prompt_that_was_offered(service):
    offers = {service.next_duel_prompt("ann").prompt for _ in range(20)}
    assert len(offers) == 1
    [prompt] = offers
    turn = service.duel("ann", prompt, SHORT)
    assert (turn.prompt, turn.chosen_by) == (prompt, "random")
    assert service.duel("ann", "Mine", SHORT).chosen_by == "asked"


def test_without_prompts_one_s_own_are_taken(folder):
    with service_on(folder, chat_config(), prompts=()) as service:
        with pytest.raises(UserError):
            service.next_duel_prompt("ann")
        with pytest.raises(UserError):
            service.duel("ann", None, SHORT)
        with pytest.raises(UserError):
            service.duel("ann", " ", SHORT)
        assert service.duel("ann", "Why?", SHORT).done()


# --- active learning --------------------------------------------------------------------------------------------------


@pytest.fixture
def scored(folder, tokenizer):
    """A service with a reward model that always asks it."""
    save_reward(folder / "reward", tokenizer)
    with service_on(folder, chat_config(serve={"active_share": 1.0, "duel_pool": 4}), rewards=True) as service:
        service.scorer.use(folder / "reward")
        yield service


def test_the_least_sure_of_a_round_are_kept_and_shown_as_scored(scored, monkeypatch):
    deck, told = scored.deck, []
    gaps = deck._gaps
    monkeypatch.setattr(deck, "_gaps", lambda pairs: told.append((pairs, gaps(pairs))) or told[-1][1])
    deck.fill()
    [(pairs, found)] = told
    assert len(pairs) == len(found) == 8 and deck.stock == 2
    best = sorted(range(8), key=found.__getitem__)[:2]
    monkeypatch.setattr(deck, "_want", lambda: None)
    for number in best:
        settings = ReplySettings(temperature=scored.config.chat.temperature, top_p=scored.config.chat.top_p)
        turn = scored.duel("ann", None, settings)
        assert turn.chosen_by == "active" and turn.done().chosen_by == "active"
        prompt, replies = pairs[number]
        assert (ask(turn.prompt), turn.left.message.content, turn.right.message.content) == (
            prompt, replies[0].text, replies[1].text,
        )  # fmt: skip
    assert scored.duel("ann", None, SHORT).chosen_by == "random"  # nothing left in stock


def test_closing_stops_the_round_that_is_drawn(scored):
    gate = Gate(scored.engine, "ppo")
    scored.deck._want()
    assert gate.reached.wait(60)
    closing = threading.Thread(target=scored.deck.close)
    closing.start()
    while not scored.deck._closed.is_set() or not all(one.generation.row.dropped for one in scored.deck._asked):
        closing.join(0.01)
    gate.gone()
    closing.join(60)
    assert not closing.is_alive() and scored.deck.stock == 0
    assert scored.engine.stats().replies <= 2  # not all 16


def test_the_gap_is_the_difference_of_the_rewards(scored):
    replies = [scored.engine.reply(ask("Why?"), "ppo", ReplySettings(seed=seed, max_tokens=8)) for seed in (1, 2)]
    rows = [Judged(ask("Why?"), reply.text, reply.finish_reason == "stop") for reply in replies]
    first, second = scored.scorer.score(rows)
    pair, same = (replies[0], replies[1]), (replies[0], replies[0])
    assert scored.deck._gaps([(ask("Why?"), pair), (ask("Why?"), same)]) == pytest.approx(
        [abs(first - second), 0], abs=1e-5
    )
    assert abs(first - second) > 1e-3


def test_the_stock_is_filled_behind_the_first_duel(scored):
    assert scored.deck.stock == 0
    assert scored.next_duel_prompt("ann").chosen_by == "random"
    for _ in range(6000):
        if scored.deck.stock >= 4:
            break
        scored.deck._closed.wait(0.01)
    assert scored.next_duel_prompt("bob").chosen_by == "active"
    scored.deck.clear()
    assert scored.deck.stock in (0, 2)  # a round may have been under way


def test_other_versions_or_settings_do_not_show_the_scored_pair(scored, folder, tokenizer):
    arena, offer = scored.arena, Offer("Why?", ask("Why?"), "active", (Arm("ppo", 1), Arm("ppo", 2)))
    default = scored.deck.sampled
    assert arena._as_it_is_now(offer, default).arms == offer.arms
    assert arena._as_it_is_now(offer, SHORT).arms is None
    gone = Offer("Why?", ask("Why?"), "active", (Arm("ppo", 1), Arm("old", 2)))
    assert arena._as_it_is_now(gone, default).arms is None


def test_without_a_reward_model_all_is_random(folder):
    with service_on(folder, chat_config(serve={"active_share": 1.0}), rewards=True) as service:
        assert not service.scorer.ready
        assert service.next_duel_prompt("ann").chosen_by == "random" and service.deck._thread is None


def test_prompts_of_several_turns_are_left_out(folder):
    long = PROMPTS[0].__class__("x", (*ask("Hi"), Message("assistant", "Yes?"), Message("user", "2+2?")), "", "lists")
    with service_on(folder, chat_config(), prompts=[long, PROMPTS[0]]) as service:
        assert service.deck.prompts == [PROMPTS[0].prompt]
