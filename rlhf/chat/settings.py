"""The configuration of what people meet: the chat, the server, its guardrails, who gets which version, and the loop."""

from typing import Any, Literal

from pydantic import Field

from rlhf.section import Section


class ChatSection(Section):
    """How replies are made, in the terminal, in the browser and over HTTP alike."""

    temperature: float = Field(default=0.7, ge=0, le=2)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""
    system: str = ""
    """System turn put before every conversation; empty: none."""
    version: str | None = None
    """In the terminal: name of the version to talk to. Default: the live one."""
    overwrite: bool = False
    """Replies to a file of prompts may replace the file given as --out."""
    max_batch: int = Field(default=32, gt=0)
    """Replies decoded at a time."""
    queue_size: int = Field(default=64, gt=0)
    """Requests that may wait; more are refused with a time after which to try again."""


class ServeSection(Section):
    """The web server (`--phase serve`)."""

    host: str = "127.0.0.1"
    """Address to listen on; another than loopback needs a token."""
    port: int = Field(default=5000, ge=0, lt=65536)
    """Port; 0 takes a free one, which is printed."""
    token: str | None = None
    """What a client must know. Default: drawn anew at each start, and printed. Better given in the environment, as
    RLHF_TOKEN, where no list of processes shows it."""
    trusted_hosts: list[str] = []
    """Names by which the server may be called, besides loopback and `host`."""
    streams: int = Field(default=32, gt=0)
    """Replies that may stream at a time; each holds a thread."""
    timeout_s: float = Field(default=120, gt=0)
    """A reply that takes longer, in seconds, is stopped, and counts as a timeout."""
    duel_prompts: str | None = None
    """JSON-lines file of prompts to duel on. Default: the prompts of the training split."""
    active_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the duels whose prompt is the one that the reward model is least sure of; the others are random. The
    former train the reward model, but compare no versions: docs/ab-testing.md."""
    duel_pool: int = Field(default=4, gt=1)
    """Prompts that are answered twice ahead, and scored, for each one of which the reward model is least sure."""


class GuardrailSection(Section):
    """What is kept from the model, and from the reader."""

    max_characters: int = Field(default=8000, gt=0)
    """Longest message, in characters."""
    requests_per_minute: int = Field(default=60, gt=0)
    """Messages a person may send in a minute; the burst is a quarter of it."""
    requests_per_minute_together: int | None = Field(default=None, gt=0)
    """Messages that all who share the token may send in a minute, under whatever names; the burst is a quarter of it.
    Default: 20 times `requests_per_minute`."""
    words: bool = True
    """Refuse messages and replies with a word of glin-profanity's list."""
    classifier: str | None = None
    """Hub name or local folder of a classifier of unsafe text."""
    classifier_label: str | int | None = None
    """Its label for unsafe text, by name or number."""
    classifier_threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability of that label from which on a text is unsafe."""


class RoutingSection(Section):
    """Which version answers, where there is a challenger."""

    policy: Literal["fixed", "epsilon_greedy", "ucb1", "thompson"] = "fixed"
    """How the rest of the traffic is routed."""
    challenger_share: float = Field(default=0.5, ge=0, le=1)
    """With `fixed`: share of the conversations that challengers get, together."""
    epsilon: float = Field(default=0.1, ge=0, le=1)
    """With `epsilon_greedy`: share of the choices that are random."""
    uniform_share: float = Field(default=0.1, ge=0.1, le=1)
    """Share of the conversations that are routed uniformly at random; only they feed the test."""
    discount: float = Field(default=1.0, gt=0, le=1)
    """Weight of the past: each new judgement multiplies it by this."""
    window: int | None = Field(default=None, gt=0)
    """Only so many of the last judgements count."""
    automatic: bool = False
    """Promote the challenger, or retire it, once the test has decided; roll back a live version that misbehaves."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Chance that the test decides for a difference that is not there, however often one looks."""
    fallback_after: int = Field(default=20, gt=0)
    """Replies of a version before it may be judged to misbehave."""
    fallback_rate: float = Field(default=0.2, gt=0, le=1)
    """Share of errors, timeouts and unsafe replies above which the SFT version takes a challenger's place."""


class ImproveSection(Section):
    """The loop from feedback to the next version (`--phase improve`)."""

    min_pairs: int = Field(default=50, gt=0)
    """New pairs below which nothing is trained."""
    held_out: float = Field(default=0.1, gt=0, lt=0.9)
    """Share of the judged prompts that are kept to measure on."""
    replay: float = Field(default=1.0, ge=0)
    """Old pairs that the reward model sees again, for each new one."""
    reward: dict[str, Any] = {}
    """Keys of the section `reward` that differ when it is updated: fewer pairs ask for fewer or smaller steps."""
    ppo: dict[str, Any] = {}
    """Keys of the section `ppo` that differ when a version is made."""
    episodes: int | None = Field(default=None, gt=0)
    """Episodes of PPO; default: ppo.total_episodes."""
    prompts: int = Field(default=400, gt=1)
    """Held-out prompts on which the new version meets the old one."""
