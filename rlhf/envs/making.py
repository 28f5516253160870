"""From a run folder, or from what is in memory, to the world of the environments; refuses at once what cannot work."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from rlhf.data import classroom
from rlhf.data.mixing import order
from rlhf.envs.opened import EMBEDDED, EMBEDDED_PROMPTS, OpenedRun, open_run
from rlhf.envs.world import FurtherTurns, World
from rlhf.envs.worth import RewardGiven, made_rewards
from rlhf.errors import UserError
from rlhf.records import Conversation, Demonstration, Prompt, ask, prompt_id
from rlhf.tokenizer import encode_prompt

REPLY_TOKENS = 32
"""Of a reply at most, where nothing says."""

Question = str | Prompt | Conversation


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
    missing_eos_penalty: float | None = None,
    demonstrations: Sequence[Demonstration] | None = None,
    device: str = "auto",
) -> World:
    """What conversations are made of; give it to environments as `world=`, which then share its model.

    Args:
        run: folder of a run: its model and tokenizer, its reward model, its limits. What else is given goes before.
        version: of the run; default: the live one.
        model: a causal language model in memory. It is put into eval mode and not trained here; its weights must not
            change while environments use it. Not needed to read and to write token ids.
        tokenizer: needed where there is no run; with an EOS, a pad token and a chat template (`load_tokenizer`). Beside
            a model or reward model of the run, it must have the entries and the special tokens of the run's own.
        prompts: texts, records or conversations; default: the training prompts of the embedded corpus.
        reward: what a reply is worth: "model" (the run's reward model), "gold" (the embedded corpus's judge), a
            function or a configuration as for `ppo.rewards` (docs/rewards.md). Default: the run's own `ppo.rewards`;
            without a run, or where the reward model that they need was not trained, "gold", which knows the embedded
            prompts only, and only the first reply to them. A reward function's columns `id`, `reference`, … are those
            of the opening prompt, also for later replies.
        user: what the user says after each reply: texts, or a function of the conversation so far.
        max_turns: replies of a conversation, at most.
        max_reply_tokens: of one reply, its end included; default: as the run was configured, else 32.
        context: tokens of a whole conversation; default: as the run was configured, else what the longest prompt needs
            or, where the user says more, what the model can take.
        missing_eos_penalty: taken off the reward of a reply that does not end by itself; default: the run's own
            `ppo.missing_eos_penalty`, else 0.
        demonstrations: held-out ones, on which rewards with `normalise: true` get mean 0 and standard deviation 1;
            default: the run's own, where they are the embedded corpus's. Rewards without a run cannot be normalised.
        device: "auto", "cpu" or "cuda", for a run's models.

    Raises:
        UserError: no such run or version, no tokenizer, no prompts, no such reward, one that does not know the prompts,
            prompts that are too long, or something that needs a run is given without one.
    """
    if run is None:
        _refuse_without_run(version=version, demonstrations=demonstrations)
    found = open_run(Path(run).expanduser(), version, device) if run is not None else None
    if found:
        tokenizer, model = tokenizer or found.tokenizer, model if model is not None else found.model
    if tokenizer is None:
        raise UserError("The environment needs a tokenizer.", remedy="give run=…, or tokenizer=… and prompts=…")
    _check_complete(tokenizer)
    if found and model is found.model:
        found.refuse_other(tokenizer)
    if model is not None:
        _check_vocabulary(model, tokenizer)
    most = max_reply_tokens
    if most is None:
        most = found.max_reply_tokens if found else REPLY_TOKENS
    rows = [_as_prompt(prompt) for prompt in prompts] if prompts is not None else _embedded(found)
    encoded = [encode_prompt(tokenizer, row.prompt) for row in rows]
    rewards, read = made_rewards(reward, found, tokenizer, rows, several_turns=bool(user), held_out=demonstrations)
    return World(
        tokenizer, rows, encoded, rewards, _context(context, found, model, tokenizer, encoded, most, bool(user)),
        most, model, user, max_turns, _penalty(missing_eos_penalty, found), read,
    )  # fmt: skip


def _refuse_without_run(**given: Any) -> None:
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise UserError(f"{' and '.join(names)} would have no effect: no run is given.", remedy="give run=…, too")


def _embedded(run: OpenedRun | None) -> list[Prompt]:
    if run is not None:
        return run.prompts()
    return sorted(classroom.SOURCE.prompts(EMBEDDED), key=order)[:EMBEDDED_PROMPTS]


def _penalty(given: float | None, run: OpenedRun | None) -> float:
    if given is not None:
        return given
    return run.missing_eos_penalty if run else 0.0


def _check_complete(tokenizer: PreTrainedTokenizerFast) -> None:
    needed = {"EOS": tokenizer.eos_token, "pad token": tokenizer.pad_token, "chat template": tokenizer.chat_template}
    lacking = [name for name, there in needed.items() if not there]
    if lacking:
        raise UserError("The tokenizer lacks what conversations are written with.", expected=", ".join(needed),
                        found=f"no {', no '.join(lacking)}",
                        remedy="load it with rlhf.tokenizer.load_tokenizer, which adds what is missing")  # fmt: skip


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


def _context(
    given: int | None,
    run: OpenedRun | None,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    encoded: list[list[int]],
    reply: int,
    several_turns: bool,
) -> int:
    """How long a conversation may be, in tokens."""
    positions = getattr(model.config, "max_position_embeddings", None) if model is not None else None
    enough = max((len(ids) for ids in encoded), default=0) + reply
    if given is None and run is not None:
        given = run.context
    elif given is None:
        wanted = positions or tokenizer.model_max_length if several_turns else enough
        given = min(wanted, positions or wanted)
    if given > (positions or given):
        raise UserError("The context is longer than the model can take.", expected=f"at most {positions}",
                        found=str(given), remedy="lower context")  # fmt: skip
    if given > 1 << 20:  # a tokenizer that knows no length says 10³⁰
        raise UserError("Nothing says how long a conversation may be.", remedy="give context=…")
    return given
