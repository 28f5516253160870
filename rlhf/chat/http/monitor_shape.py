"""The shape of what the monitor page draws (`rlhf.chat.http.monitor`), and of GET /api/monitor.

Times are Unix seconds, spans seconds, sizes bytes; null means that there is nothing to say.
"""

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """A part of the answer: every key is always there."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )


class Quantiles(Shape):
    """The middle of what was measured, and what one in twenty exceeds."""

    p50: float | None
    p95: float | None


class Times(Shape):
    """How fast replies came in the last `window` seconds."""

    window: float
    """Seconds looked back."""
    replies: int
    """Replies in them, the blocked ones left out."""
    first_token: Quantiles
    """Seconds from the request to the first token."""
    whole: Quantiles
    """Seconds from the request to the last token."""
    tokens_per_second: float | None
    """Of a reply, the median: its tokens by its seconds."""
    throughput: float
    """Tokens of all replies by the window's seconds."""


class Memory(Shape):
    """Bytes."""

    resident: int
    """Of the server's process."""
    gpu: int | None
    """Held by tensors on the GPU; null without one."""
    gpu_total: int | None
    """What the GPU has."""


class Queue(Shape):
    """Requests at the engine."""

    waiting: int
    active: int
    """Being decoded."""
    size: int
    """How many may wait."""


class RewardPoint(Shape):
    """Replies of one version in one span of time, as the reward model sees them."""

    time: float
    """Where the span begins."""
    version: str
    mean: float
    replies: int


class LeftSide(Shape):
    """Fair duels that the left answer won, whatever versions met and however the pair was found: far from half, people
    judge by the side. Fair: no spam, no import, not judged when the names were known."""

    wins: int
    losses: int
    rate: float | None
    """wins / (wins + losses); ties count for nothing."""
    low: float | None
    high: float | None
    """95% interval (Wilson 1927)."""


class VersionRow(Shape):
    """A version of the registry, and where it stands among those that met in duels."""

    name: str
    state: str
    """candidate, live or retired."""
    created: str
    """ISO 8601."""
    parent: str | None
    metrics: dict[str, float]
    duels: int
    """Voted duels that it was in."""
    strength: float | None
    """Bradley-Terry, in logits; null before its first duel."""
    low: float | None
    high: float | None
    """95% interval of the strength, by bootstrap."""


class Test(Shape):
    """The A/B test of one challenger against the live version, on uniform traffic."""

    live: str
    challenger: str
    decision: str
    """continue, promote or retire."""
    p_value: float
    """Anytime-valid: one may look as often as one likes."""
    difference: float
    """Challenger less live, in judgements from 0 to 1."""
    low: float | None
    high: float | None
    live_judgements: int
    challenger_judgements: int


class Curve(Shape):
    """One number of one training run over its steps, thinned to at most `curves.POINTS` points."""

    run: str
    """The result's folder below the run folder: ppo, versions/v2/ppo, …"""
    phase: str
    """The last part of it: base, sft, reward, ppo, …"""
    metric: str
    """The key in metrics.jsonl: loss, eval_loss, accuracy, objective/scores, objective/kl, …"""
    steps: list[float]
    values: list[float]


class Snapshot(Shape):
    """Everything the page draws."""

    time: float
    times: Times
    memory: Memory
    queue: Queue
    rewards: list[RewardPoint]
    """Of the last day, by span and version, oldest first."""
    reward_span: float
    """Seconds of one span."""
    feedback: dict[str, int]
    """Judgements in the store, also those that count nowhere: thumbs_up, thumbs_down, ratings, corrections, duels,
    ties, both_bad, …"""
    blocks: dict[str, int]
    """Messages and replies that the guardrails held back, by reason, in the last day."""
    left_side: LeftSide
    versions: list[VersionRow]
    tests: list[Test]
    """None where there is no challenger."""
    curves: list[Curve]
