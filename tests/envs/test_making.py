import copy

import pytest

from rlhf.env import ChatEnvironment, make_world
from rlhf.errors import UserError
from rlhf.records import Message, Prompt, ask
from rlhf.rewards.core import Reward, Rewards
from rlhf.tokenizer import load_tokenizer
from tests.conftest import TEXTS
from tests.env_world import CONTEXT, letters, made_run, play, small, small_world


def test_prompts_may_be_texts_conversations_or_records():
    talk = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "How are you?"))
    record = Prompt("7", ask("Paris"), "geography", "mine")
    world = small_world(prompts=["Hi", talk, record], context=CONTEXT)
    assert [prompt.prompt for prompt in world.prompts] == [ask("Hi"), talk, ask("Paris")]
    assert world.prompts[2] is record


@pytest.mark.parametrize(
    ("reward", "name", "value"),
    [
        (letters, "letters", 2.0),
        (Rewards([Reward("twice", letters, weight=2)]), "twice", 4.0),
        ("distinct", "distinct", 1.0),
        ({"reward": "length", "words": [2, 5], "weight": 3}, "length", 1.5),
    ],
)
def test_rewards_may_be_functions_or_as_configured(reward, name, value):
    world = small_world(reward=reward)
    totals, parts = world.score([world.prompts[0]], [world.encoded[0]], [list(small()[1].encode("aha"))])
    assert totals == [value] and list(parts[0]) == [name]


def test_the_gold_judge_knows_the_embedded_prompts():
    """ "no answer at all" is worth 0, the ideal answer 1."""
    world = make_world(tokenizer=small()[1])
    prompt = next(row for row in world.prompts if row.reference and row.category == "open_qa")
    row = world.prompts.index(prompt)
    reply = small()[1].encode(prompt.reference, add_special_tokens=False)
    totals, _ = world.score([prompt] * 2, [world.encoded[row]] * 2, [list(reply), []])
    assert totals[0] > 0.9 and totals[1] == 0


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ({"prompts": ["The cat", "Paris"]}, "2 others of 2"),
        ({"prompts": None, "model": None, "user": ["Go on"]}, "further turns"),
    ],
)
@pytest.mark.parametrize("reward", [None, "gold"])
def test_the_gold_judge_is_refused_what_it_does_not_know(made, found, reward):
    with pytest.raises(UserError, match=f"(?s)cannot tell what these replies are worth.*{found}"):
        small_world(**made, reward=reward, context=256)


def test_later_replies_come_with_the_opening_prompts_reference():
    seen = []

    def note(completions, messages, id, reference, **columns):
        seen.append((id[0], reference[0], messages[0][-1]["content"]))
        return [0.0]

    paris = Prompt("7", ask("Paris"), "", "mine", reference="In France.")
    world = small_world(prompts=[paris], reward=note, user=["And Rome?"])
    env = ChatEnvironment("reply", world=world)
    env.reset(seed=0)
    play(env, [env.encode_reply("a")] * 2)
    assert seen == [("7", "In France.", "Paris"), ("7", "In France.", "And Rome?")]


def test_a_reward_that_does_not_apply_adds_nothing_and_is_left_out():
    world = small_world(reward=lambda completions, **columns: [None] * len(completions))
    assert world.score([world.prompts[0]], [world.encoded[0]], [[]]) == ([0.0], [{}])


def test_the_context_is_what_the_longest_prompt_needs():
    world = small_world(max_reply_tokens=5)
    assert world.context == max(map(len, world.encoded)) + 5
    assert small_world(user=["More?"]).context == CONTEXT  # more will be said: all that the model can take


def test_worlds_are_shared_not_copied():
    world = small_world()
    assert copy.deepcopy(world) is world


def test_a_world_is_told_in_a_few_words():
    """Gymnasium writes it into its messages."""
    assert repr(small_world()) == "<World of 3 prompts, rewarded for letters>"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": "/nowhere"}, "no run folder /nowhere"),
        ({"tokenizer": None}, "needs a tokenizer"),
        ({"prompts": []}, "no prompts"),
        ({"prompts": ["The cat " * 40]}, "too long for the context"),
        ({"prompts": ["The cat " * 20], "context": 30}, "too long for the context"),
        ({"context": 65}, "longer than the model can take"),
        ({"context": 0}, "context is out of range"),
        ({"max_reply_tokens": 0}, "max_reply_tokens is out of range"),
        ({"max_turns": 0}, "max_turns is out of range"),
        ({"reward": "lenght"}, "lenght"),
        ({"reward": {"reward": "length"}}, "reward is no reward"),
        ({"reward": "model"}, "no learned reward model"),
    ],
)
def test_what_cannot_work_is_refused_at_once(changes, message):
    with pytest.raises(UserError, match=message):
        small_world(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_that_is_no_finite_number_is_refused(value):
    world = small_world(reward=lambda completions, **columns: [value] * len(completions))
    with pytest.raises(UserError, match="no finite number"):
        world.score([world.prompts[0]], [world.encoded[0]], [[]])


@pytest.mark.parametrize(
    ("part", "name"), [("eos_token", "EOS"), ("pad_token", "pad token"), ("chat_template", "chat template")]
)
def test_a_tokenizer_that_lacks_something_is_refused(part, name):
    tokenizer = copy.deepcopy(small()[1])
    setattr(tokenizer, part, None)
    with pytest.raises(UserError, match=f"(?s)lacks.*found: no {name}\n.*load_tokenizer"):
        small_world(tokenizer=tokenizer)


def test_a_model_with_too_few_embeddings_is_refused():
    model = copy.deepcopy(small()[0])
    model.resize_token_embeddings(290)
    with pytest.raises(UserError, match="do not fit together"):
        small_world(model=model)


def test_a_run_gives_its_model_reward_model_prompts_and_limits(tmp_path):
    """The reward is held against the reward model itself."""
    from reward_model import RewardModel

    judge, tokenizer = made_run(tmp_path)
    world = make_world(tmp_path, device="cpu", prompts=["The cat", "Paris"])
    assert (world.context, world.max_reply_tokens, world.rewards.names) == (40, 8, ["model"])
    reply = [50, 51, tokenizer.eos_token_id]
    (found,), _ = world.score([world.prompts[0]], [world.encoded[0]], [reply])
    wanted = RewardModel(judge, tokenizer.pad_token_id).score_ids([[*world.encoded[0], *reply]])
    assert found == pytest.approx(float(wanted[0]), abs=1e-4)


def test_another_tokenizer_than_the_runs_is_for_other_models(tmp_path):
    """Fewer entries, or one more of the special tokens."""
    _, own = made_run(tmp_path)
    other = load_tokenizer("train", vocab_size=290, texts=lambda: TEXTS, max_length=CONTEXT)
    special = copy.deepcopy(own)
    special.bos_token = own.eos_token
    given = {"run": tmp_path, "device": "cpu", "prompts": ["The cat"]}
    for tokenizer, found in ((other, "other entries"), (special, "other special tokens")):
        normalised = {"reward": "composite", "parts": ["model", "distinct"], "normalise": True}
        for changes in ({"reward": letters}, *({"model": small()[0], "reward": one} for one in ("model", normalised))):
            with pytest.raises(UserError, match=f"(?s)not that of the run.*{found}"):
                make_world(**given, tokenizer=tokenizer, **changes)
        make_world(**given, tokenizer=tokenizer, model=small()[0], reward=letters)
    make_world(**given, tokenizer=copy.deepcopy(own))
