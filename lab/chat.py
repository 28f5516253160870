"""PPO learns to reply: the lab's own PPO on the chat environment, token by token, from nothing but the reward.

python -m lab.chat                                     # a small language model is made and trained first, on the spot
python -m lab.chat --run models/tiny                   # … or that of a run

The policy sees the frozen language model's last hidden state of the conversation so far and chooses the next token. It
starts without any knowledge of words. A whole reply is worth how many words it shares with the reference (F1). What it
learned is measured on questions that it was never asked, beside its own start and the language model's likeliest reply.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from tqdm import tqdm

from lab.chat_model import small_model
from lab.drawing import PALETTE, lines
from lab.experiment import Experiment, Options, at_least, command_line, need
from lab.ppo.actor import Actor
from lab.ppo.evaluation import Acts, evaluate
from lab.ppo.learner import Agent, Training, train
from lab.ppo.normalise import Observations
from lab.ppo.policy import Policy
from lab.ppo.runs import means
from lab.ppo.settings import Settings
from rlhf.config import SourceSpec
from rlhf.data import classroom
from rlhf.data.mixing import order
from rlhf.env import ChatEnvironment, ChatVectorEnvironment, World, make_world
from rlhf.evaluation.statistics import Interval, bootstrap_ci
from rlhf.records import Prompt

LONGEST = 70
"""Letters of a question: short ones leave more steps for the replies."""
POINTS = 25
"""Of the learning curve."""
EVALUATION_SEED = 1_000_000
LEAST_GAIN = 0.05
"""What the lower end of the interval of the gain must reach."""


@dataclass(frozen=True)
class Arguments(Options):
    run: Path | None = None
    """Folder of a run whose language model reads the conversations; default: one is made and trained."""
    steps: int = 120_000
    """Tokens, of all conversations together."""
    environments: int = 64
    """Conversations at a time."""
    prompts: int = 3_000
    """Questions to learn from."""
    held_out: int = 200
    """Other questions, to measure on."""
    reply_tokens: int = 8
    """Of a reply, at most."""
    entries: int = 512
    """Vocabulary of the language model that is made."""
    language_steps: int = 150
    """Steps of its training."""

    def __post_init__(self) -> None:
        need(self.steps >= 1, "steps", "1 or more", self.steps)
        need(self.environments >= 1, "environments", "1 or more", self.environments)
        need(self.prompts >= 1, "prompts", "1 or more", self.prompts)
        need(self.held_out >= 2, "held_out", "2 or more, for an interval", self.held_out)
        need(self.reply_tokens >= 1, "reply_tokens", "1 or more", self.reply_tokens)
        need(self.entries >= 300, "entries", "300 or more: one for each byte, and some", self.entries)
        need(self.language_steps >= 1, "language_steps", "1 or more", self.language_steps)


class Worlds(NamedTuple):
    """Conversations to learn from, and others to measure on."""

    training: World
    held_out: World


class Outcome(NamedTuple):
    """Rewards of replies to the held-out questions, each (N,), row by row to the same question."""

    before: NDArray
    """Of the policy that training starts from."""
    after: NDArray
    language_model: NDArray
    """Of the language model itself, its likeliest token each time."""

    @property
    def gain(self) -> Interval:
        """95% interval of the mean of after - before."""
        found = bootstrap_ci(self.after - self.before)
        assert found is not None
        return found


def shared_words(completions: list[str], reference: list[str], **columns: list[Any]) -> list[float]:
    """F1 of the words of reply and reference, each as often as it stands (Rajpurkar et al. 2016, arXiv 1606.05250).

    0 where they share none, 1 where the reply has all of the reference's words and no others.
    """
    return [_f1(_words(one), _words(other)) for one, other in zip(completions, reference, strict=True)]


def _words(text: str) -> Counter[str]:
    """In lower case, without the punctuation around them; what else stands beside a letter makes it another word."""
    return Counter(filter(None, (word.strip(".,!?").lower() for word in text.split())))


def _f1(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 0.0


def questions(count: int) -> list[Prompt]:
    """Short open questions of the embedded school corpus, with references, in hash order."""
    rows = classroom.SOURCE.prompts(SourceSpec(source=classroom.SOURCE.name))
    short = [row for row in rows if row.category == "open_qa" and len(row.prompt[-1].content) <= LONGEST]
    need(count <= len(short), "prompts", f"with --held-out at most {len(short)}", count)
    return sorted(short, key=order)[:count]


def worlds(arguments: Arguments) -> Worlds:
    """Both worlds, on one language model, which has read none of the held-out questions."""
    rows = questions(arguments.prompts + arguments.held_out)
    parts = rows[: arguments.prompts], rows[arguments.prompts :]
    given: dict[str, Any] = {"reward": shared_words, "max_reply_tokens": arguments.reply_tokens, "device": "cpu"}
    if arguments.run is None:
        model, tokenizer = small_model(parts[0], arguments.entries, arguments.language_steps, arguments.seed)
    else:
        whole = make_world(arguments.run, prompts=parts[0], **given)
        model, tokenizer = whole.model, whole.tokenizer
    return Worlds(*(make_world(model=model, tokenizer=tokenizer, prompts=part, **given) for part in parts))


def settings(steps: int, environments: int) -> Settings:
    """Of PPO: replies are short, so nothing is discounted; hidden states differ in scale, so they are normalised."""
    return Settings(steps=steps, environments=environments, horizon=32, batch=256, epochs=4, gamma=1.0, lam=0.95,
                    learning_rate=1e-3, learning_rate_course="linear", normalise=True, hidden=(128,),
                    entropy_weight=0.01)  # fmt: skip


def learn(world: World, of: Settings, seed: int, experiment: Experiment | None = None) -> Training:
    """Train on the token environment, with a progress bar."""
    environments = ChatVectorEnvironment(of.environments, "token", "features", world=world)
    with tqdm(total=of.steps, desc="PPO", unit="token") as bar:

        def tell(steps: int, figures: dict[str, float]) -> None:
            bar.update(steps - bar.n)
            if experiment:
                experiment.log(figures, steps)

        return train(environments, of, seed, tell)


def untrained(world: World, of: Settings, seed: int) -> Agent:
    """What training with this seed starts from."""
    space = ChatEnvironment("token", "features", world=world)
    shape, actions = space.observation_space.shape, space.action_space
    assert shape is not None
    policy = Policy(shape[0], actions, of, seed)
    actor = Actor(policy, actions, of.environments, of, np.random.default_rng(seed))
    return Agent(policy, Observations(shape[0], of.normalise), actor)


class Likeliest:
    """The language model itself: the actions of the environment of parameters that stand for temperature 0."""

    def best(self, observations: Any) -> NDArray:
        """(N, 3)"""
        return np.tile(np.array([-1, 1, 1], np.float32), (len(observations["length"]), 1))


def measure(held_out: World, count: int, before: Acts, after: Acts) -> Outcome:
    """Replies without chance to the same questions; the numbers are seeded, so row by row the question is the same."""
    tokens = [ChatVectorEnvironment(count, "token", "features", world=held_out) for _ in range(2)]
    written = ChatVectorEnvironment(count, "parameters", world=held_out)
    return Outcome(
        before=evaluate(before, tokens[0], EVALUATION_SEED),
        after=evaluate(after, tokens[1], EVALUATION_SEED),
        language_model=evaluate(Likeliest(), written, EVALUATION_SEED),
    )


def examples(held_out: World, agent: Acts, count: int = 8) -> list[dict[str, Any]]:
    """What is replied to the first held-out questions."""
    env = ChatEnvironment("token", "features", world=held_out)
    found = []
    for number in range(min(count, len(held_out.prompts))):
        observation, _ = env.reset(options={"prompt": number})
        over = False
        while not over:
            observation, reward, over, _, info = env.step(agent.best(observation[None])[0])
        prompt = held_out.prompts[number]
        found.append({"question": prompt.prompt[-1].content, "reference": prompt.reference, "reply": info["reply"],
                      "reward": reward})  # fmt: skip
    return found


def figure(steps: list[int], curve: list[float | None], outcome: Outcome) -> go.Figure:
    """The learning curve, and what the held-out replies were worth."""
    there = [(step, mean) for step, mean in zip(steps, curve, strict=True) if mean is not None]
    drawn = lines({"PPO while it learns": ([s for s, _ in there], [m for _, m in there])},
                  "Tokens", "Mean reward of a reply", "PPO learns to reply, token by token")  # fmt: skip
    levels = {"before, held-out": outcome.before, "after, held-out": outcome.after,
              "the language model itself": outcome.language_model}  # fmt: skip
    for number, (name, rewards) in enumerate(levels.items(), start=1):
        drawn.add_scatter(x=[0, steps[-1]], y=[rewards.mean()] * 2, name=name, mode="lines",
                          line=dict(color=PALETTE[number], dash="dash"))  # fmt: skip
    return drawn.update_layout(legend=dict(orientation="h", y=-0.2), margin_b=110, yaxis_rangemode="tozero")


def main(arguments: Arguments) -> None:
    """Make, train, measure, draw."""
    with Experiment("chat", arguments) as experiment:
        both = worlds(arguments)
        of = settings(arguments.steps, arguments.environments)
        before = untrained(both.training, of, arguments.seed)
        training = learn(both.training, of, arguments.seed, experiment)
        outcome = measure(both.held_out, arguments.held_out, before, training.agent)
        points = np.linspace(0, of.steps, POINTS + 1).round().astype(int)[1:]
        curve = means(training.episodes, points)
        experiment.results |= {
            "settings": asdict(of), "steps": points.tolist(), "curve": curve,
            **{name: float(rewards.mean()) for name, rewards in outcome._asdict().items()}, "gain": outcome.gain,
            "examples": examples(both.held_out, training.agent),
        }  # fmt: skip
        experiment.claim("reward on held-out questions, after less before: lower end of the 95% interval",
                         outcome.gain[0], at_least(LEAST_GAIN), "this project's own bar")  # fmt: skip
        experiment.figure("curve", figure(points.tolist(), curve, outcome))


if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
