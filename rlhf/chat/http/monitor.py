"""What the monitor page shows: how fast, how full, how good, and which version stands where.

snapshot(service, store, registry, engine)        # monitor_shape.Snapshot as plain JSON

It is asked for every few seconds, so what a look costs does not grow with the age of the database: times are those of
the last quarter of an hour, rewards those of the last day. What is made of all judgements (counts, sides, standings,
tests) is made anew only after a judgement (`rlhf.chat.serving.following`), curves where their files have changed.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from scipy.stats import binomtest

from rlhf.chat.ab_test import Standing
from rlhf.chat.engine import Engine
from rlhf.chat.feedback import FeedbackStore, StoredMessage
from rlhf.chat.http import monitor_shape as shape
from rlhf.chat.http.curves import curves
from rlhf.registry import Registry

if TYPE_CHECKING:
    from rlhf.chat.service import ChatService

DAY = 24 * 3600.0
TIMES_WINDOW = 900.0
"""Seconds of which response times are shown."""
REWARD_SPAN = 1800.0
"""Seconds of a point of the rewards."""
MOST_REPLIES = 2000
"""Of the last day, the latest so many are looked at."""
MOST_BLOCKS = 5000


def snapshot(service: "ChatService", store: FeedbackStore, registry: Registry, engine: Engine) -> dict[str, Any]:
    """Everything the monitor page draws, as plain JSON (`monitor_shape.Snapshot`)."""
    now = time.time()
    # Figures of a version that move with a duel nobody has judged yet would tell who answers there.
    unjudged = {reply for duel in store.duels(voted=False, since=now - DAY) for reply in (duel.left, duel.right)}
    replies = [one for one in store.replies(now - DAY, MOST_REPLIES) if not one.blocked and one.id not in unjudged]
    stats, outcomes = engine.stats(), service.outcomes
    return shape.Snapshot(
        time=now,
        times=_times([reply for reply in replies if reply.created >= now - TIMES_WINDOW]),
        memory=_memory(),
        queue=shape.Queue(waiting=stats.waiting, active=stats.active, size=stats.queue_size),
        rewards=_rewards(replies),
        reward_span=REWARD_SPAN,
        feedback=outcomes.counts(),
        blocks=_blocks(store, now - DAY),
        left_side=left_side(*outcomes.left_side()),
        versions=_versions(registry, outcomes.standings()),
        tests=_tests(service),
        curves=[shape.Curve.model_validate(line._asdict()) for line in curves(registry.run_folder)],
    ).model_dump(mode="json")


def _times(replies: Sequence[StoredMessage]) -> shape.Times:
    finished = [reply for reply in replies if reply.seconds]
    tokens = [reply.completion_tokens or 0 for reply in finished]
    rates = [count / (reply.seconds or 1) for count, reply in zip(tokens, finished, strict=True) if count]
    return shape.Times(
        window=TIMES_WINDOW,
        replies=len(finished),
        first_token=quantiles([reply.first_token_seconds for reply in finished if reply.first_token_seconds]),
        whole=quantiles([reply.seconds for reply in finished if reply.seconds]),
        tokens_per_second=float(np.median(rates)) if rates else None,
        throughput=sum(tokens) / TIMES_WINDOW,
    )


def quantiles(values: Sequence[float]) -> shape.Quantiles:
    """Median and 95% quantile, between the two nearest values where it lies there."""
    if not values:
        return shape.Quantiles(p50=None, p95=None)
    middle, high = np.quantile(values, [0.5, 0.95])
    return shape.Quantiles(p50=float(middle), p95=float(high))


def _memory() -> shape.Memory:
    gpu = torch.cuda.is_initialized()
    return shape.Memory(
        resident=psutil.Process().memory_info().rss,
        gpu=torch.cuda.memory_allocated() if gpu else None,
        gpu_total=torch.cuda.mem_get_info()[1] if gpu else None,
    )


def _blocks(store: FeedbackStore, since: float) -> dict[str, int]:
    found: Counter[str] = Counter()
    for event in store.events("blocked", since, MOST_BLOCKS):
        found[str(event.data.get("reason"))] += event.data.get("count", 1)
    return dict(found)


def _rewards(replies: Sequence[StoredMessage]) -> list[shape.RewardPoint]:
    """The mean of each span and version."""
    found: dict[tuple[float, str], list[float]] = defaultdict(list)
    for reply in replies:
        if reply.reward is not None and math.isfinite(reply.reward):
            span = math.floor(reply.created / REWARD_SPAN) * REWARD_SPAN
            found[span, reply.version or ""].append(reply.reward)
    return [
        shape.RewardPoint(time=span, version=version, mean=sum(rewards) / len(rewards), replies=len(rewards))
        for (span, version), rewards in sorted(found.items())
    ]


def left_side(wins: int, losses: int) -> shape.LeftSide:
    """How often the left answer won, with Wilson's interval (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""
    if not wins + losses:
        return shape.LeftSide(wins=0, losses=0, rate=None, low=None, high=None)
    low, high = binomtest(wins, wins + losses).proportion_ci(method="wilson")
    rate = wins / (wins + losses)
    return shape.LeftSide(wins=wins, losses=losses, rate=rate, low=float(low), high=float(high))


def _versions(registry: Registry, standings: Sequence[Standing]) -> list[shape.VersionRow]:
    """The registry's versions with where they stand."""
    places = {standing.version: standing for standing in standings}
    rows = []
    for version in registry.versions():
        place = places.get(version.name)
        rows.append(
            shape.VersionRow(
                name=version.name,
                state=version.state,
                created=version.created,
                parent=version.parent,
                metrics=version.metrics,
                duels=place.n if place else 0,
                strength=place.strength if place else None,
                low=place.low if place else None,
                high=place.high if place else None,
            )
        )
    return rows


def _tests(service: "ChatService") -> list[shape.Test]:
    """Each challenger against the live version, as `rlhf.chat.serving.versions` judges them."""
    serving = service.serving
    live, *challengers = serving.arms
    rows = []
    for name in challengers:
        found = serving.verdict(name)
        rows.append(
            shape.Test(
                live=live,
                challenger=name,
                decision=found.decision,
                p_value=found.p_value,
                difference=found.difference,
                low=found.interval[0],
                high=found.interval[1],
                live_judgements=found.n_live,
                challenger_judgements=found.n_challenger,
            )
        )
    return rows
