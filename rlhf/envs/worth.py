"""What the replies of the environments are worth: from a name, a function or a configuration to reward functions.

rewards, read = made_rewards("gold", None, tokenizer, prompts, several_turns=False)
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from reward_model import RewardModel
from rlhf.baseline import reader
from rlhf.data import classroom
from rlhf.data.source import Judge
from rlhf.encoding import Encoder
from rlhf.envs.opened import EMBEDDED, OpenedRun
from rlhf.errors import UserError
from rlhf.records import Demonstration, Prompt
from rlhf.rewards.build import Workshop, build_rewards, check_rewards
from rlhf.rewards.calibration import run_workshop
from rlhf.rewards.core import Columns, ReadFunction, Reward, RewardFunction, Rewards
from rlhf.rewards.specs import RewardSpec, rewards_adapter, uses_model

GOLD = "gold"

RewardGiven = Rewards | RewardFunction | str | dict[str, Any] | list[Any]


def made_rewards(
    given: RewardGiven | None,
    run: OpenedRun | None,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    *,
    several_turns: bool,
    held_out: Sequence[Demonstration] | None = None,
) -> tuple[Rewards, ReadFunction | None]:
    """The reward functions and, if it is one of them, the learned reward model.

    Args:
        given: as `make_world` takes it.
        run: the reward model, the units and the precision are its.
        tokenizer: of the replies.
        prompts: that begin a conversation.
        several_turns: whether the user goes on after the first reply.
        held_out: demonstrations to normalise on, in place of the run's.

    Raises:
        UserError: no such reward, one that does not know the prompts, or one that needs a run.
    """
    if given is None:
        given = _configured(run)
    if isinstance(given, Rewards):
        return given, None
    if given == GOLD:
        return Rewards([Reward(GOLD, _gold(prompts, several_turns))]), None
    if not isinstance(given, str | dict | list):
        return Rewards([Reward(getattr(given, "__name__", type(given).__name__), given)]), None
    specs = _specs(given)
    read = _learned(run, tokenizer) if uses_model(specs) else None
    return build_rewards(specs, _workshop(run, tokenizer, held_out, read)), read


def _configured(run: OpenedRun | None) -> list[Any] | str:
    """As the run's PPO has it; gold without a run, and where the reward model that it asks for was not trained."""
    if run is None or (uses_model(run.config.ppo.rewards) and run.reward_folder is None):
        return GOLD
    return list(run.config.ppo.rewards)


def _specs(given: str | dict[str, Any] | list[Any]) -> list[RewardSpec]:
    try:
        specs = rewards_adapter.validate_python(given)
    except ValidationError as error:
        raise UserError("reward is no reward.", expected="as for ppo.rewards (docs/rewards.md), or 'gold'",
                        found=f"{given!r}: {error.errors()[0]['msg']}") from None  # fmt: skip
    check_rewards(specs)
    return specs


def _workshop(
    run: OpenedRun | None,
    tokenizer: PreTrainedTokenizerFast,
    held_out: Sequence[Demonstration] | None,
    read: ReadFunction | None,
) -> Workshop:
    if run is None:
        return Workshop(torch.device("cpu"), calibration=_no_demonstrations)
    encoder = Encoder(tokenizer, run.config.data)
    return run_workshop(
        run.config, run.device, encoder, lambda: run.held_out() if held_out is None else list(held_out), read
    )


def _no_demonstrations() -> Columns:
    raise UserError(
        "A reward is to be normalised, and without a run nothing says on which replies.",
        expected="a run: its held-out demonstrations give the reward mean 0 and standard deviation 1",
        remedy="give run=…, or set normalise: false",
    )


def _gold(prompts: Sequence[Prompt], several_turns: bool) -> RewardFunction:
    """The embedded corpus's judge; refused where it would give nothing, or judge by another question's answer."""
    judge = classroom.SOURCE.judge(EMBEDDED)
    problem = "The judge of the embedded corpus cannot tell what these replies are worth."
    remedy = 'give reward=…: a function, or a name from docs/rewards.md such as "distinct"'
    unknown = [prompt.id for prompt in prompts if judge(prompt, "") is None]
    if unknown:
        raise UserError(problem, expected="prompts of the embedded corpus", remedy=remedy,
                        found=f"{len(unknown)} others of {len(prompts)}, the first: {unknown[0]}")  # fmt: skip
    if several_turns:
        raise UserError(problem, expected="one reply a conversation: the judge knows the answer to the first question",
                        found="further turns (user=…)", remedy=remedy)  # fmt: skip
    return judged(judge, prompts)


def _learned(run: OpenedRun | None, tokenizer: PreTrainedTokenizerFast) -> ReadFunction:
    if run is None or run.reward_folder is None:
        raise UserError("There is no learned reward model.", expected="a run with the result of phase reward",
                        remedy="give run=…, or another reward=…")  # fmt: skip
    run.refuse_other(tokenizer)
    model = RewardModel.load(run.reward_folder, run.tokenizer, run.config.model.precision, run.device)
    return reader(model, features=False)


def judged(judge: Judge, prompts: Sequence[Prompt]) -> Callable[..., list[float | None]]:
    """A judge that knows the truth as a reward function; None for prompts that it does not know."""
    by_id = {prompt.id: prompt for prompt in prompts}

    def gold(prompts: list[str], completions: list[str], id: list[str], **_: list[Any]) -> list[float | None]:
        return [judge(by_id[one], completion) for one, completion in zip(id, completions, strict=True)]

    return gold
