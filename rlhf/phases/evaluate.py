"""Phase test: four systems side by side, in and out of distribution, and the reward model itself, in one report.

    python main.py --phase test

RR is the untrained base, SO has SFT only, RO has PPO straight from the base, SPP has both.
"""

import json
import math
import sys
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerFast

from reward_model import RewardModel
from rlhf.config import plain_values
from rlhf.data.source import Judge
from rlhf.encoding import Encoder
from rlhf.evaluation import environment
from rlhf.evaluation.records import HELD_OUT, IN_DISTRIBUTION, PHASES, EvaluationInput, PairScores, Reply, SystemReplies
from rlhf.evaluation.report import write_report
from rlhf.evaluation.terminal import summary_table
from rlhf.generation import Sampled, sample_replies, sft_sampler
from rlhf.logprobs import reply_logprobs
from rlhf.models import load_causal_lm
from rlhf.provenance import dependencies, differences
from rlhf.records import Preference, Prompt
from rlhf.run import Run
from rlhf.training import METRICS_FILE, read_data, read_metrics

FOLDERS = {"RR": "base", "SO": "sft", "RO": "ppo_from_base", "SPP": "ppo"}
"""System → the result folder that holds it; RR of a pretrained model is that model itself."""

Suites = dict[str, list[Prompt]]


class Generated(NamedTuple):
    """What one system wrote, before scoring."""

    replies: dict[str, list[Sampled]]
    """Suite → one reply a prompt."""
    logprobs: dict[str, list[float]]
    """Suite → log-probability of each reply under the system that wrote it, at the sampling temperature."""
    perplexity: float


def run_phase(run: Run) -> dict[str, float]:
    """Generate, score and compare. Leaves `DIR/report`."""
    settings = run.config.test
    reward_folder = run.result("reward")
    tokenizer = run.tokenizer()
    encoder = Encoder(tokenizer, run.config.data)
    suites = {IN_DISTRIBUTION: run.data.prompts("test")[: settings.prompts], **run.data.ood(settings.prompts)}
    sources, absent = find_systems(run)
    generated = {name: _generate(run, name, source, suites, encoder) for name, source in sources.items()}
    kl = _kl_to_sft(run, sources, generated, tokenizer)
    reward_model = RewardModel.load(reward_folder, tokenizer, run.config.model.precision, run.device)
    judge = run.data.judge()
    systems = {
        name: _score(name, suites, written, kl.get(name), reward_model, judge) for name, written in generated.items()
    }
    pairs, pair_counts = _score_pairs(run, reward_model)
    evaluation = EvaluationInput(
        systems=systems,
        absent=environment.publishable(absent),
        pairs=pairs,
        curves={phase: read_metrics(run.folder / phase / METRICS_FILE) for phase in PHASES},
        config=environment.publishable(plain_values(run.config)),
        results=environment.publishable(_other_settings(run)),
        seeds={"seed": run.config.seed},
        command=environment.command(sys.argv),
        environment=environment.environment(),
        versions=environment.versions(),
        hardware=environment.hardware([torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]),
        data={
            "training": {phase: data for phase in PHASES if (data := read_data(run.folder / phase))},
            "suites": {name: len(prompts) for name, prompts in suites.items()} | {"tokens": encoder.summary()},
            "pairs": pair_counts,
        },
        bootstrap=settings.bootstrap,
        samples=settings.samples,
        title=f"RLHF report: {run.folder.name}",
    )
    folder = run.publish("report", lambda aside: write_report(evaluation, aside))
    print(summary_table(json.loads((folder / "report.json").read_text(encoding="utf-8"))))
    print(f"\nreport: {folder / 'report.html'}")
    return {}


def find_systems(run: Run) -> tuple[dict[str, str], dict[str, str]]:
    """Systems that exist → hub name or folder; systems that do not → why, with the phase that makes them."""
    sources, absent = {}, {}
    for name, folder in FOLDERS.items():
        if name == "RR" and run.config.model.name:
            sources[name] = run.config.model.name
        elif (run.folder / folder).is_dir():
            sources[name] = str(run.result(folder))
        else:
            phase = "all --resume" if name == "RO" else folder
            absent[name] = f"not trained; `--phase {phase}` makes it, with the other options as they were"
    return sources, absent


def _generate(run: Run, name: str, source: str, suites: Suites, encoder: Encoder) -> Generated:
    settings, tokenizer = run.config.test, encoder.tokenizer
    model = load_causal_lm(source, tokenizer, run.config.model.precision, run.device)
    replies, logprobs = {}, {}
    for suite, prompts in suites.items():
        replies[suite] = sample_replies(
            model,
            encoder,
            prompts,
            temperature=settings.temperature,
            batch_size=settings.batch_size,
            seed=run.config.seed,
            title=f"{name} {suite}",
        )
        logprobs[suite] = _logprobs(run, model, replies[suite], tokenizer)
    return Generated(replies, logprobs, _perplexity(model, suites[IN_DISTRIBUTION], encoder, settings.batch_size))


def _logprobs(run: Run, model: Any, replies: list[Sampled], tokenizer: PreTrainedTokenizerFast) -> list[float]:
    """At the sampling temperature, so that their difference is the KL between what was really sampled from."""
    return reply_logprobs(
        model,
        [reply.prompt_ids for reply in replies],
        [reply.reply_ids for reply in replies],
        tokenizer.pad_token_id,
        temperature=run.config.test.temperature or 1.0,
        batch_size=run.config.test.batch_size,
    )


def _perplexity(model: Any, prompts: list[Prompt], encoder: Encoder, batch_size: int) -> float:
    """exp of the mean negative log-likelihood a token of the references, end of sequence included; NaN without any."""
    given = [(encoder.prompt(p.prompt), encoder.reply(p.reference)) for p in prompts if p.reference]
    if not given:
        return math.nan
    prompt_ids, reply_ids = (list(column) for column in zip(*given, strict=True))
    total = sum(reply_logprobs(model, prompt_ids, reply_ids, encoder.tokenizer.pad_token_id, batch_size=batch_size))
    return math.exp(-total / sum(len(ids) for ids in reply_ids))


def _kl_to_sft(
    run: Run, sources: dict[str, str], generated: dict[str, Generated], tokenizer: PreTrainedTokenizerFast
) -> dict[str, dict[str, list[float]]]:
    """System → suite → log p_system - log p_SFT of each reply; empty where there is no SFT model."""
    if "SO" not in sources:
        return {}
    sft = load_causal_lm(sources["SO"], tokenizer, run.config.model.precision, run.device)
    result: dict[str, dict[str, list[float]]] = {}
    for name, written in tqdm(generated.items(), desc="KL to SFT", unit="system"):
        result[name] = {}
        for suite, replies in written.replies.items():
            reference = written.logprobs[suite] if name == "SO" else _logprobs(run, sft, replies, tokenizer)
            result[name][suite] = [a - b for a, b in zip(written.logprobs[suite], reference, strict=True)]
    return result


def _score(
    name: str,
    suites: Suites,
    written: Generated,
    kl: dict[str, list[float]] | None,
    reward_model: RewardModel,
    judge: Judge | None,
) -> SystemReplies:
    scored: dict[str, list[Reply]] = {}
    for suite, prompts in suites.items():
        replies = written.replies[suite]
        rewards = reward_model.score_ids([reply.prompt_ids + reply.reply_ids for reply in replies]).tolist()
        scored[suite] = [
            Reply(
                prompt=prompt,
                text=reply.text,
                tokens=len(reply.reply_ids) - reply.ended,
                ended=reply.ended,
                reward=reward,
                gold=judge(prompt, reply.text) if judge else None,
                kl_to_sft=kl[suite][row] if kl else None,
            )
            for row, (prompt, reply, reward) in enumerate(zip(prompts, replies, rewards, strict=True))
        ]
    return SystemReplies(name, scored, None if math.isnan(written.perplexity) else written.perplexity)


def _score_pairs(run: Run, reward_model: RewardModel) -> tuple[dict[str, PairScores], dict[str, dict[str, int]]]:
    """Scores of held-out pairs: all together, each source by itself where there are several, and the extra sets.

    And, for each set, what was cut and left out.
    """
    sampler = sft_sampler(run) if (run.folder / "sft").is_dir() else None
    held_out = run.data.preferences("test", sampler)
    sets = {HELD_OUT: held_out}
    by_source = sorted({pair.source for pair in held_out})
    if len(by_source) > 1:
        sets |= {source: [pair for pair in held_out if pair.source == source] for source in by_source}
    sets |= run.data.extra_preferences() if run.config.data.extra_preferences else {}
    encoders = {name: Encoder(run.tokenizer(), run.config.data) for name in sets}
    scores = {
        name: score_set(name, pairs[: run.config.test.pairs], reward_model, encoders[name])
        for name, pairs in sets.items()
    }
    return scores, {name: encoder.summary() for name, encoder in encoders.items()}


def score_set(name: str, rows: list[Preference], reward_model: RewardModel, encoder: Encoder) -> PairScores:
    """Margins by clean labels: a pair that was mislabelled on purpose counts the right way round."""
    pairs = encoder.pairs(rows)
    better = [pair.rejected if pair.row.mislabelled else pair.chosen for pair in pairs]
    worse = [pair.chosen if pair.row.mislabelled else pair.rejected for pair in pairs]
    rewards = [
        reward_model.score_ids([pair.prompt + ids for pair, ids in zip(pairs, side, strict=True)]).numpy()
        for side in (better, worse)
    ]
    return PairScores(
        set_name=name,
        kinds=[pair.row.kind for pair in pairs],
        margins=(rewards[0] - rewards[1]).astype(np.float64),
        length_chosen=np.array([len(ids) for ids in better], dtype=np.float64),
        length_rejected=np.array([len(ids) for ids in worse], dtype=np.float64),
        sources=[pair.row.source for pair in pairs],
        reward_std=reward_model.normalisation.std,
    )


def _other_settings(run: Run) -> dict[str, dict[str, Any]]:
    """Result → the settings, of those it depends on, that it was made with and that are not this report's."""
    made_with = {name: run.made_with(name) for name in PHASES}
    return {
        name: {key: then for key, (then, _) in differences(config, run.config, dependencies(name)).items()}
        for name, config in made_with.items()
        if config
    }
