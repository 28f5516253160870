"""PPO improves a language model: the lab's own PPO on the chat environment, token by token, as RLHF does.

python -m lab.chat                                     # a small language model is made and trained first, on the spot
python -m lab.chat --run models/tiny                   # … or that of a run

The policy sees the language model's last hidden state of the conversation so far and chooses the next token. It starts
as the language model itself: a linear actor whose weights are the model's head. The body stays frozen. A whole reply is
worth how many words it shares with the reference (F1).

Measured on held-out questions, each once, the likeliest token each time: after PPO beside the language model, and
beside the best single reply to everything. The held-out questions are other wordings: nearly all ask for facts that
training questions ask for too (`known` in the results says how many), so this is no test of facts never met.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from tqdm import tqdm

from lab.chat_model import small_model
from lab.chat_words import best_constant, shared_words
from lab.drawing import PALETTE, Points, lines
from lab.experiment import Experiment, Options, at_least, command_line, need
from lab.ppo.actor import Actor
from lab.ppo.learner import Agent, Training, train
from lab.ppo.normalise import Observations
from lab.ppo.policy import Policy
from lab.ppo.settings import Settings
from lab.runs import POINTS, Acts, means
from rlhf.config import SourceSpec
from rlhf.data import classroom
from rlhf.data.classroom import pool
from rlhf.data.mixing import order
from rlhf.env import ChatEnvironment, ChatVectorEnvironment, World, make_world
from rlhf.evaluation.statistics import Interval, bootstrap_ci
from rlhf.logprobs import causal_lm
from rlhf.records import Prompt

LONGEST = 70
"""Letters of a question: short ones leave more steps for the replies."""
TEMPERATURE = 0.5
"""At which the policy draws tokens when training starts; the likeliest token is the same at any temperature. At 1, in
trials on other questions, PPO improved the replies that it drew, but not the likeliest ones."""
IMPOSSIBLE = -100.0
"""Logit of a token that no reply may have."""
RATES = (1e-4, 1e-3, 1e-2)
"""Learning rates that the study compares."""
STUDY_STEPS = 100_000
"""Tokens of each training of the study, at most."""
LEAST_GAIN = 0.001
"""What the lower end of the interval of a gain must reach: more than the 0 of a policy that stays as it is."""
LEAST_DISTINCT = 0.2
"""Share of distinct replies that must be reached: a policy that does not read the question has but one."""


@dataclass(frozen=True)
class Arguments(Options):
    run: Path | None = None
    """Folder of a run whose language model reads the conversations; default: one is made and trained."""
    steps: int = 400_000
    """Tokens, of all conversations together."""
    environments: int = 128
    """Conversations at a time."""
    prompts: int = 3_000
    """Questions to learn from."""
    held_out: int = 400
    """Other questions, to measure on."""
    reply_tokens: int = 24
    """Of a reply, at most."""
    entries: int = 512
    """Vocabulary of the language model that is made."""
    language_steps: int = 300
    """Steps of its training."""
    study: bool = True
    """Afterwards, train with other learning rates, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
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


class Reply(NamedTuple):
    """To a held-out question."""

    text: str
    reward: float


class Outcome(NamedTuple):
    """Replies to the held-out questions, each question once, in their order; the likeliest token each time."""

    before: list[Reply]
    """Of the language model itself, which training starts from."""
    after: list[Reply]
    constant: list[Reply]
    """The same to every question: the best for the training questions (`best_constant`)."""

    def rewards(self) -> dict[str, NDArray]:
        """Whose replies → their rewards (N,)."""
        return {name: np.array([one.reward for one in replies]) for name, replies in self._asdict().items()}

    def distinct(self) -> dict[str, float]:
        """Whose replies → the share of them that are left when each text is counted once."""
        return {name: len({one.text for one in replies}) / len(replies) for name, replies in self._asdict().items()}

    def gain(self, over: str) -> Interval:
        """95% interval of the mean of after less another's, question by question."""
        rewards = self.rewards()
        found = bootstrap_ci(rewards["after"] - rewards[over])
        assert found is not None
        return found


def questions(count: int) -> list[Prompt]:
    """Short open questions of the embedded school corpus, with references, in hash order."""
    rows = classroom.SOURCE.prompts(SourceSpec(source=classroom.SOURCE.name))
    short = [row for row in rows if row.category == "open_qa" and len(row.prompt[-1].content) <= LONGEST]
    need(count <= len(short), "prompts", f"with --held-out at most {len(short)}", count)
    return sorted(short, key=order)[:count]


def worlds(arguments: Arguments) -> Worlds:
    """Both worlds, on one language model, which has read none of the held-out questions."""
    rows = questions(arguments.prompts + arguments.held_out)
    parts = rows[arguments.held_out :], rows[: arguments.held_out]
    given: dict[str, Any] = {"reward": shared_words, "max_reply_tokens": arguments.reply_tokens, "device": "cpu"}
    if arguments.run is None:
        model, tokenizer = small_model(parts[0], arguments.entries, arguments.language_steps, arguments.seed)
    else:
        whole = make_world(arguments.run, prompts=parts[0], **given)
        model, tokenizer = whole.model, whole.tokenizer
    return Worlds(*(make_world(model=model, tokenizer=tokenizer, prompts=part, **given) for part in parts))


def settings(steps: int, environments: int) -> Settings:
    """Of PPO: a linear actor, as the language model's head is one; replies are short, so nothing is discounted."""
    return Settings(steps=steps, environments=environments, horizon=32, batch=256, epochs=4, gamma=1.0, lam=1.0,
                    learning_rate=1e-3, learning_rate_course="linear", hidden=(), critic_hidden=(128,))  # fmt: skip


def language_model(world: World, of: Settings, seed: int) -> Policy:
    """The policy that is the language model at `TEMPERATURE`: its head as a linear actor, and an untaught critic.

    A token that no reply may have is as good as impossible from the start.
    """
    head = causal_lm(world.model).get_output_embeddings()
    weight = head.weight[: world.vocabulary].float()
    bias = torch.zeros(len(weight)) if head.bias is None else head.bias[: len(weight)].float()
    bias = torch.where(torch.from_numpy(world.sayable), bias / TEMPERATURE, IMPOSSIBLE)
    return Policy(weight.shape[1], Discrete(len(weight)), of, seed).start_from(weight / TEMPERATURE, bias)


def learn(world: World, of: Settings, seed: int, experiment: Experiment | None = None) -> Training:
    """Train on the token environment, with a progress bar."""
    environments = ChatVectorEnvironment(of.environments, "token", "features", world=world)
    with tqdm(total=of.steps, desc="PPO", unit="token") as bar:

        def tell(steps: int, figures: dict[str, float]) -> None:
            bar.update(steps - bar.n)
            if experiment:
                experiment.log(figures, steps)

        return train(environments, of, seed, tell, language_model(world, of, seed))


def acting(policy: Policy, of: Settings) -> Agent:
    """A policy as it is, without training."""
    width, actions = policy.head.out.in_features, Discrete(policy.head.out.out_features)
    return Agent(policy, Observations(width, of.normalise), Actor(policy, actions, 1, of, np.random.default_rng(0)))


def replies(world: World, agent: Acts) -> list[Reply]:
    """To each question of a world, once; without chance."""
    env, found = ChatEnvironment("token", "features", world=world), []
    for number in tqdm(range(len(world.prompts)), "replies"):
        observation, _ = env.reset(options={"prompt": number})
        over = False
        while not over:
            observation, reward, over, _, info = env.step(agent.best(observation[None])[0])
        found.append(Reply(info["reply"], reward))
    return found


def measure(both: Worlds, before: Acts, after: Acts) -> Outcome:
    """Both, and the best constant reply, on the held-out questions."""
    constant = best_constant([prompt.reference or "" for prompt in both.training.prompts])
    asked = both.held_out.prompts
    rewards = shared_words([constant] * len(asked), [prompt.reference or "" for prompt in asked])
    return Outcome(replies(both.held_out, before), replies(both.held_out, after),
                   [Reply(constant, reward) for reward in rewards])  # fmt: skip


def known(both: Worlds) -> float:
    """Share of the held-out questions whose fact some training question asks for too, in other words."""
    facts = {row.id: row.draft.sentence(row.draft.answer) for row in pool.examples()}
    trained = {facts[prompt.id] for prompt in both.training.prompts}
    return sum(facts[prompt.id] in trained for prompt in both.held_out.prompts) / len(both.held_out.prompts)


def examples(held_out: World, outcome: Outcome, count: int = 8) -> list[dict[str, Any]]:
    """The first held-out questions, and what was replied."""
    rows = zip(held_out.prompts[:count], outcome.before, outcome.after, strict=False)
    return [{"question": prompt.prompt[-1].content, "reference": prompt.reference, "before": before._asdict(),
             "after": after._asdict()} for prompt, before, after in rows]  # fmt: skip


def figure(learned: Points, outcome: Outcome) -> go.Figure:
    """The learning curve, and what the held-out replies were worth."""
    drawn = lines({"while it learns: tokens drawn, training questions": learned},
                  "Tokens", "Mean reward of a reply (F1)", "PPO from the language model on")  # fmt: skip
    last = learned[0][-1] if learned[0] else 1
    names = {"before": "before: the language model", "after": "after PPO", "constant": "best constant reply"}
    for number, (name, rewards) in enumerate(outcome.rewards().items(), start=1):
        drawn.add_scatter(x=[0, last], y=[rewards.mean()] * 2, name=f"{names[name]}, held-out", mode="lines",
                          line=dict(color=PALETTE[number], dash="dash"))  # fmt: skip
    return drawn.update_layout(legend=dict(orientation="h", y=-0.2), margin_b=110, yaxis_rangemode="tozero")


def studied(training: World, of: Settings, seed: int) -> dict[float, Points]:
    """Learning rate → the learning curve: tokens, mean rewards of replies as they are drawn, training questions."""
    short = replace(of, steps=min(of.steps, STUDY_STEPS))
    return {rate: curve(learn(training, replace(short, learning_rate=rate), seed), short.steps) for rate in RATES}


def curve(training: Training, steps: int) -> Points:
    """How rewards grew: tokens so far, and the mean reward of the replies that ended since the last point."""
    points = np.linspace(0, steps, POINTS + 1).round().astype(int)[1:]
    there = zip(points.tolist(), means(training.episodes, points), strict=True)
    known = [(step, mean) for step, mean in there if mean is not None]
    return [step for step, _ in known], [mean for _, mean in known]


def sensitivity(curves: dict[float, Points]) -> go.Figure:
    """The study's curves."""
    series = {f"learning rate {rate:g}": points for rate, points in curves.items()}
    drawn = lines(series, "Tokens", "Mean reward of a reply, training questions", "How far a step goes")
    return drawn.update_layout(legend=dict(orientation="h", y=-0.2), margin_b=110, yaxis_rangemode="tozero")


def claim(experiment: Experiment, outcome: Outcome) -> None:
    """What learning to reply means: better than the start, better than one reply to everything, and not one reply."""
    own = "this project's own bar"
    for over, name in (("before", "the language model's own"), ("constant", "the best constant reply's")):
        experiment.claim(f"reward on held-out questions after PPO, less {name}: lower end of the 95% interval",
                         outcome.gain(over)[0], at_least(LEAST_GAIN), own, "more than 0")  # fmt: skip
    experiment.claim("distinct replies after PPO, share of the held-out questions", outcome.distinct()["after"],
                     at_least(LEAST_DISTINCT), own)  # fmt: skip


def main(arguments: Arguments) -> None:
    """Make, train, measure, draw."""
    with Experiment("chat", arguments) as experiment:
        both = worlds(arguments)
        of = settings(arguments.steps, arguments.environments)
        before = acting(language_model(both.training, of, arguments.seed), of)
        training = learn(both.training, of, arguments.seed, experiment)
        outcome = measure(both, before, training.agent)
        learned = curve(training, of.steps)
        experiment.results |= {
            "settings": asdict(of), "steps": learned[0], "curve": learned[1],
            "rewards": {name: float(rewards.mean()) for name, rewards in outcome.rewards().items()},
            "gains": {over: outcome.gain(over) for over in ("before", "constant")}, "distinct": outcome.distinct(),
            "constant": outcome.constant[0].text, "known": known(both), "examples": examples(both.held_out, outcome),
        }  # fmt: skip
        claim(experiment, outcome)
        experiment.figure("curve", figure(learned, outcome))
        if arguments.study:
            curves = studied(both.training, of, arguments.seed)
            experiment.results["study"] = {f"learning rate {rate:g}": points for rate, points in curves.items()}
            experiment.figure("study", sensitivity(curves))


if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
