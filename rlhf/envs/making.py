"""From a run folder, or from what is in memory, to the world of the environments; refuses at once what cannot work."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from reward_model import RewardModel
from rlhf.baseline import reader
from rlhf.config import Config, DataSection, SourceSpec, load_config
from rlhf.data import classroom
from rlhf.data.mixing import in_split, order
from rlhf.data.source import Judge
from rlhf.envs.world import FurtherTurns, World
from rlhf.errors import UserError
from rlhf.models import load_causal_lm, resolve_device
from rlhf.records import Conversation, Prompt, ask, prompt_id
from rlhf.registry import Registry
from rlhf.rewards.build import Workshop, build_rewards, check_rewards
from rlhf.rewards.core import ReadFunction, Reward, RewardFunction, Rewards
from rlhf.rewards.specs import rewards_adapter, uses_model
from rlhf.tokenizer import encode_prompt, load_tokenizer

GOLD, LEARNED = "gold", "model"
EMBEDDED_PROMPTS = 2000
"""Of the embedded corpus, where no prompts are given."""

REPLY_TOKENS = 32
"""Of a reply at most, where nothing says."""

Question = str | Prompt | Conversation
RewardGiven = Rewards | RewardFunction | str | dict[str, Any] | list[Any]


class _Run(NamedTuple):
    """What a run folder gives."""

    config: Config
    tokenizer: PreTrainedTokenizerFast
    model: Any
    device: torch.device
    reward_folder: Path | None


def make_world(
    run: str | Path | None = None,
    *,
    version: str | None = None,
    model: Any = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
    prompts: Sequence[Question] | None = None,
    reward: RewardGiven | None = None,
    user: FurtherTurns = (),
    max_turns: int = 8,
    max_reply_tokens: int | None = None,
    context: int | None = None,
    missing_eos_penalty: float = 0.0,
    device: str = "auto",
) -> World:
    """What conversations are made of; give it to environments as `world=`, which then share its model.

    Args:
        run: folder of a run: its model and tokenizer, its reward model, its limits. What else is given goes before.
        version: of the run; default: the live one.
        model: a causal language model in memory; frozen from now on. Not needed to read and to write token ids.
        tokenizer: needed where there is no run; with an EOS, a pad token and a chat template (`load_tokenizer`). Beside
            a model or reward model of the run, it must have the entries and the special tokens of the run's own.
        prompts: texts, records or conversations; default: the training prompts of the embedded corpus.
        reward: what a reply is worth: "model" (the run's reward model), "gold" (the embedded corpus's judge), a
            function or a configuration as for `ppo.rewards` (docs/rewards.md). Default: "model" where the run has one,
            else "gold", which knows the embedded prompts only, and only the first reply to them. A reward function's
            columns `id`, `reference`, … are those of the opening prompt, also for later replies.
        user: what the user says after each reply: texts, or a function of the conversation so far.
        max_turns: replies of a conversation, at most.
        max_reply_tokens: of one reply, its end included; default: as the run was configured, else 32.
        context: tokens of a whole conversation; default: as the run was configured, else what the longest prompt needs
            or, where the user says more, what the model can take.
        missing_eos_penalty: taken off the reward of a reply that does not end by itself.
        device: "auto", "cpu" or "cuda", for a run's models.

    Raises:
        UserError: no such run or version, no tokenizer, no prompts, no such reward, one that does not know the prompts,
            or prompts that are too long.
    """
    found = _load(Path(run).expanduser(), version, device) if run is not None else None
    if found:
        tokenizer, model = tokenizer or found.tokenizer, model if model is not None else found.model
    if tokenizer is None:
        raise UserError("The environment needs a tokenizer.", remedy="give run=…, or tokenizer=… and prompts=…")
    _check_complete(tokenizer)
    if model is not None:
        _check_vocabulary(model, tokenizer)
    limits = found.config.data if found else None
    most = max_reply_tokens
    if most is None:
        most = limits.max_response_tokens if limits else REPLY_TOKENS
    rows = [_as_prompt(prompt) for prompt in prompts] if prompts is not None else _embedded(found)
    encoded = [encode_prompt(tokenizer, row.prompt) for row in rows]
    rewards, read = _rewards(reward, found, rows, bool(user))
    if found and (model is found.model or read is not None):
        _check_same(tokenizer, found.tokenizer)
    return World(
        tokenizer, rows, encoded, rewards, _context(context, limits, model, tokenizer, encoded, most, bool(user)),
        most, model, user, max_turns, missing_eos_penalty, read,
    )  # fmt: skip


def _load(folder: Path, version: str | None, wanted_device: str) -> _Run:
    if not folder.is_dir():
        raise UserError(f"There is no run folder {folder}.", expected="a folder that python main.py has left",
                        remedy="train one: python main.py --phase all")  # fmt: skip
    registry = Registry(folder)
    chosen = registry.path(registry.get(version) if version else registry.live())
    config = load_config(chosen / "config.yaml")
    device, data = resolve_device(wanted_device), config.data
    length = data.max_prompt_tokens + data.max_response_tokens
    tokenizer = load_tokenizer(str(chosen), vocab_size=config.model.vocab_size, texts=list, max_length=length)
    model = load_causal_lm(str(chosen), tokenizer, config.model.precision, device)
    reward = folder / "reward"
    return _Run(config, tokenizer, model, device, reward if reward.is_dir() else None)


def _check_complete(tokenizer: PreTrainedTokenizerFast) -> None:
    needed = {"EOS": tokenizer.eos_token, "pad token": tokenizer.pad_token, "chat template": tokenizer.chat_template}
    lacking = [name for name, there in needed.items() if not there]
    if lacking:
        raise UserError("The tokenizer lacks what conversations are written with.", expected=", ".join(needed),
                        found=f"no {', no '.join(lacking)}",
                        remedy="load it with rlhf.tokenizer.load_tokenizer, which adds what is missing")  # fmt: skip


def _check_same(given: PreTrainedTokenizerFast, own: PreTrainedTokenizerFast) -> None:
    """What was trained with the run's own tokenizer must be able to read what is written with the given one."""
    for what, one, other in (
        ("entries", given.get_vocab(), own.get_vocab()),
        ("special tokens", _special(given), _special(own)),
    ):
        if one != other:
            raise UserError("The tokenizer is not that of the run, whose models are used.", found=f"other {what}",
                            remedy="leave tokenizer out, or give model and reward, too")  # fmt: skip


def _special(tokenizer: PreTrainedTokenizerFast) -> tuple[dict[str, Any], set[int]]:
    return dict(tokenizer.special_tokens_map), set(tokenizer.all_special_ids)  # the map leaves out those without a role


def _check_vocabulary(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    entries = model.get_input_embeddings().num_embeddings
    if entries < len(tokenizer):
        raise UserError("Model and tokenizer do not fit together.", found=f"{entries} embeddings",
                        expected=f"at least the tokenizer's {len(tokenizer)} entries")  # fmt: skip


def _as_prompt(given: Question) -> Prompt:
    if isinstance(given, Prompt):
        return given
    conversation = ask(given) if isinstance(given, str) else tuple(given)
    return Prompt(prompt_id(conversation), conversation, category="", source="given")


def _embedded(run: _Run | None) -> list[Prompt]:
    """The first training prompts of the embedded corpus, in hash order."""
    spec = SourceSpec(source=classroom.SOURCE.name)
    if run is None:
        return sorted(classroom.SOURCE.prompts(spec), key=order)[:EMBEDDED_PROMPTS]
    data = run.config.data
    others = {one.source for one in data.prompts or data.demonstrations} - {spec.source}
    if others:
        raise UserError(
            "The run was trained on other prompts than the embedded ones, and no prompts are given.",
            found=f"sources {', '.join(sorted(others))}",
            remedy='give prompts=…, for example dataloader.load_prompts(config, "train")',
        )
    return sorted(in_split(data, classroom.SOURCE.prompts(spec), "train"), key=order)[:EMBEDDED_PROMPTS]


def _rewards(
    given: RewardGiven | None, run: _Run | None, prompts: Sequence[Prompt], several_turns: bool
) -> tuple[Rewards, ReadFunction | None]:
    """The reward functions and, if it is one of them, the learned reward model."""
    if given is None:
        given = LEARNED if run and run.reward_folder else GOLD
    if isinstance(given, Rewards):
        return given, None
    if given == GOLD:
        return Rewards([Reward(GOLD, _gold(prompts, several_turns))]), None
    if not isinstance(given, str | dict | list):
        return Rewards([Reward(getattr(given, "__name__", type(given).__name__), given)]), None
    try:
        specs = rewards_adapter.validate_python(given)
    except ValidationError as error:
        raise UserError("reward is no reward.", expected="as for ppo.rewards (docs/rewards.md), or 'gold'",
                        found=f"{given!r}: {error.errors()[0]['msg']}") from None  # fmt: skip
    check_rewards(specs)
    device = run.device if run else torch.device("cpu")
    return build_rewards(specs, Workshop(device)), _learned(run) if uses_model(specs) else None


def _gold(prompts: Sequence[Prompt], several_turns: bool) -> RewardFunction:
    """The embedded corpus's judge; refused where it would give nothing, or judge by another question's answer."""
    judge = classroom.SOURCE.judge(SourceSpec(source=classroom.SOURCE.name))
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


def _learned(run: _Run | None) -> ReadFunction:
    if run is None or run.reward_folder is None:
        raise UserError("There is no learned reward model.", expected="a run with the result of phase reward",
                        remedy="give run=…, or another reward=…")  # fmt: skip
    model = RewardModel.load(run.reward_folder, run.tokenizer, run.config.model.precision, run.device)
    return reader(model, features=False)


def judged(judge: Judge, prompts: Sequence[Prompt]) -> Callable[..., list[float | None]]:
    """A judge that knows the truth as a reward function; None for prompts that it does not know."""
    by_id = {prompt.id: prompt for prompt in prompts}

    def gold(prompts: list[str], completions: list[str], id: list[str], **_: list[Any]) -> list[float | None]:
        return [judge(by_id[one], completion) for one, completion in zip(id, completions, strict=True)]

    return gold


def _context(
    given: int | None,
    limits: DataSection | None,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    encoded: list[list[int]],
    reply: int,
    several_turns: bool,
) -> int:
    """How long a conversation may be, in tokens."""
    positions = getattr(model.config, "max_position_embeddings", None) if model is not None else None
    enough = max((len(ids) for ids in encoded), default=0) + reply
    if given is None and limits is not None:
        given = limits.max_prompt_tokens + limits.max_response_tokens
    elif given is None:
        wanted = positions or tokenizer.model_max_length if several_turns else enough
        given = min(wanted, positions or wanted)
    if given > (positions or given):
        raise UserError("The context is longer than the model can take.", expected=f"at most {positions}",
                        found=str(given), remedy="lower context")  # fmt: skip
    if given > 1 << 20:  # a tokenizer that knows no length says 10³⁰
        raise UserError("Nothing says how long a conversation may be.", remedy="give context=…")
    return given
