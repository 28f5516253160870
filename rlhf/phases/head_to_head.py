"""A new version meets the old one: the same held-out prompts, the same judges, and what the reward models know.

Replies are sampled at the chat's temperature and under its system turn; not with its top_p, which is taken as 1.

metrics, samples = head_to_head(run, Side(old_policy, old_reward), Side(new_policy, new_reward), new_pairs)
metrics["gold/low"] > 0
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from reward_model import RewardModel
from rlhf.chat.inference.context import with_system
from rlhf.data.source import Judge
from rlhf.encoding import Encoder
from rlhf.evaluation.statistics import right
from rlhf.evaluation.text import distinct_n
from rlhf.evaluation.versus import GOLD, OLD_REWARD, PARENT, REWARD, Metrics, Paired
from rlhf.generation import Sampled, sample_replies
from rlhf.logprobs import reply_logprobs
from rlhf.models import load_causal_lm
from rlhf.phases.evaluate import score_set
from rlhf.records import Preference, Prompt
from rlhf.run import Run


class Side(NamedTuple):
    """A version: where its policy is, and its reward model."""

    policy: Path
    reward: Path


class _Written(NamedTuple):
    """What a policy wrote, and the log-probabilities that it gives to the new version's replies: (N,); greedy: none."""

    replies: list[Sampled]
    logprobs: list[float]


def head_to_head(
    run: Run, old: Side, new: Side, new_pairs: Sequence[Preference]
) -> tuple[Metrics, list[dict[str, Any]]]:
    """Measure both on held-out prompts and pairs.

    Args:
        run: its test split, judge and settings are used.
        old: the version that was live.
        new: the version that was made from it.
        new_pairs: held-out judgements of this round.

    Returns:
        Numbers as `Paired.metrics` names them, and the replies side by side, for people to read. No "kl" at
        temperature 0, where it is infinite as soon as two replies differ.
    """
    prompts = run.data.prompts("test")[: run.config.improve.prompts]
    shown = [replace(prompt, prompt=with_system(prompt.prompt, run.config.chat.system)) for prompt in prompts]
    encoder = Encoder(run.tokenizer(), run.config.data)
    ours = _write(run, new, shown, encoder)
    theirs = _write(run, old, shown, encoder, ours.replies)
    rewards = {"new": _reward_model(run, new, encoder), "old": _reward_model(run, old, encoder)}
    scores = _scores(rewards["new"], ours.replies), _scores(rewards["new"], theirs.replies)
    metrics: Metrics = Paired.of(scores[0], scores[1]).metrics(REWARD)
    before = _scores(rewards["old"], ours.replies), _scores(rewards["old"], theirs.replies)
    metrics |= Paired.of(before[0], before[1]).metrics(OLD_REWARD)
    judge = run.data.judge()
    gold = _gold(judge, prompts, ours.replies), _gold(judge, prompts, theirs.replies)
    known = [(new, old) for new, old in zip(*gold, strict=True) if new is not None and old is not None]
    if len(known) > 1:
        metrics |= Paired.of([new for new, _ in known], [old for _, old in known]).metrics(GOLD)
    metrics |= _of_texts(ours, theirs)
    old_pairs = run.data.preferences("test")[: run.config.test.pairs]
    for name, pairs in {"accuracy on old pairs": old_pairs, "accuracy on new pairs": list(new_pairs)}.items():
        metrics |= _accuracy(name, pairs, rewards["new"], rewards["old"], run)
    columns = zip(prompts, ours.replies, theirs.replies, *scores, *gold, strict=True)
    return metrics, [_sample(*row) for row in columns]


def _write(
    run: Run, side: Side, prompts: list[Prompt], encoder: Encoder, scored: list[Sampled] | None = None
) -> _Written:
    """Replies of a side, and its log-probabilities of `scored`, by default of these."""
    temperature, rows = run.config.chat.temperature, run.config.test.batch_size
    model = load_causal_lm(str(side.policy), encoder.tokenizer, run.config.model.precision, run.device)
    replies = sample_replies(
        model, encoder, prompts, temperature=temperature, batch_size=rows, seed=run.config.seed,
        title="replies of the " + ("new version" if scored is None else "old version"),
    )  # fmt: skip
    scored = replies if scored is None else scored
    logprobs = temperature and reply_logprobs(
        model, [reply.prompt_ids for reply in scored], [reply.reply_ids for reply in scored],
        encoder.tokenizer.pad_token_id, temperature=temperature, batch_size=rows,
    )  # fmt: skip
    return _Written(replies, logprobs or [])


def _reward_model(run: Run, side: Side, encoder: Encoder) -> RewardModel:
    return RewardModel.load(side.reward, encoder.tokenizer, run.config.model.precision, run.device)


def _scores(reward: RewardModel, replies: list[Sampled]) -> list[float]:
    return [float(score) for score in reward.score_ids([reply.prompt_ids + reply.reply_ids for reply in replies])]


def _gold(judge: Judge | None, prompts: list[Prompt], replies: list[Sampled]) -> list[float | None]:
    return [judge(prompt, reply.text) if judge else None for prompt, reply in zip(prompts, replies, strict=True)]


def _of_texts(ours: _Written, theirs: _Written) -> Metrics:
    """KL of the new version to the old one in nats a reply, lengths in tokens, distinct bigrams."""
    kl = [new - old for new, old in zip(ours.logprobs, theirs.logprobs, strict=True)]
    metrics = Paired.of(_lengths(ours.replies), _lengths(theirs.replies)).metrics("length")
    metrics |= {"kl": sum(kl) / len(kl)} if kl else {}
    for key, side in (("distinct-2", ours), (f"distinct-2/{PARENT}", theirs)):
        value = distinct_n([reply.text for reply in side.replies], 2)
        metrics |= {} if value is None else {key: value}
    return metrics


def _lengths(replies: list[Sampled]) -> list[int]:
    return [len(reply.reply_ids) - reply.ended for reply in replies]


def _accuracy(name: str, pairs: list[Preference], new: RewardModel, old: RewardModel, run: Run) -> Metrics:
    """Share of the pairs that each reward model gets right; nothing where there are too few."""
    if len(pairs) < 2:
        return {}
    encoders = Encoder(run.tokenizer(), run.config.data), Encoder(run.tokenizer(), run.config.data)
    ours, theirs = (score_set(name, pairs, *both).margins for both in zip((new, old), encoders, strict=True))
    return Paired.of(right(ours), right(theirs)).metrics(name) if len(ours) > 1 else {}


def _sample(
    prompt: Prompt, ours: Sampled, theirs: Sampled, new_reward: float, old_reward: float, *gold: float | None
) -> dict[str, Any]:
    turns = [{"role": turn.role, "content": turn.content} for turn in prompt.prompt]
    found = {"prompt": turns, "new": ours.text, "old": theirs.text, "reward": [new_reward, old_reward]}
    return found if None in gold else found | {"gold": list(gold)}
