"""PPO improves a language model: the lab's own PPO on the chat environment, token by token, as RLHF does.

python -m lab.chat                                     # small language models are made and trained first, on the spot

python -m lab.chat --run models/tiny                   # … or that of a run: its train split to learn, its test split

The policy sees the language model's last hidden state of the conversation so far and chooses the next token. It starts
as the language model itself: a linear actor whose weights are the model's head. The body stays frozen. A whole reply is
worth how many words it shares with the reference (F1).

Measured on held-out questions, each once, the likeliest token each time: after PPO beside the language model, beside
the best reply to everything that can be made of the commonest words, and beside the question as its own reply. A seed
is that of the language model and of PPO; every seed has the same questions. Intervals resample facts, since questions
about one fact are rewordings of each other.

Read with care. Most of what the policy can do it has from the language model's own training on references, of which
the study takes half, as many and twice as many steps, before and after PPO: half as many cost far more than PPO brings;
twice as many bring less than PPO, but more right answers. The reward is for shared words, and what PPO finds is mostly
form: "Sure!" costs less than "I hope this helps." where the reference has another phrase. How many replies have the
right answer is counted beside it, and nothing is claimed of that. Nearly all held-out questions ask for facts that
training questions ask for too (`known` in the results says how many), so this is no test of facts never met.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lab.chat_figures import POLICIES, SIZE, UNLEARNED, Study, learning, sensitivity
from lab.chat_learning import HORIZON, Trained, settings, trained
from lab.chat_outcome import NAMES, Who
from lab.chat_worlds import Questions, Task, fact, known, questions
from lab.experiment import Experiment, Options, at_least, command_line, need
from lab.parallel import spread
from lab.ppo.settings import Settings

RATES = (1e-4, 1e-3, 1e-2)
"""Learning rates that the study compares."""
LANGUAGE_TIMES = (0.5, 1, 2)
"""How often it takes the steps of the language model's training."""
STUDY_STEPS = 100_000
"""Environment steps of each training of the study, at most, but one rollout at least."""
LEAST_GAIN = 0.001
"""What the lower end of the interval of a gain must reach: more than the 0 of a policy that stays as it is."""
LEAST_DISTINCT = 0.2
"""Share of distinct replies that must be reached: a policy that does not read the question has but one."""


@dataclass(frozen=True)
class Arguments(Options):
    beside = ("study",)

    run: Path | None = None
    """Folder of a run whose language model reads the conversations; default: one for each seed is made and trained."""
    seeds: int = 3
    """Trainings, each with a language model of its own; with --run that is the same in all."""
    steps: int = 200_000
    """Environment steps of each training, of all conversations together; those that only begin one anew included."""
    environments: int = 128
    """Conversations at a time."""
    prompts: int = Task.prompts
    """Questions to learn from."""
    held_out: int = Task.held_out
    """Other questions, to measure on."""
    reply_tokens: int = Task.reply_tokens
    """Of a reply, at most."""
    entries: int | None = None
    """Vocabulary of the language models that are made; default: 512."""
    language_steps: int | None = None
    """Steps of their training; default: 600."""
    study: bool = True
    """Train with other learning rates, and from language models that were trained less or more, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.seeds >= 1, "seeds", "1 or more", self.seeds)
        need(self.environments >= 1, "environments", "1 or more", self.environments)
        rollout = HORIZON * self.environments
        need(self.steps >= rollout, "steps", f"at least one rollout: {HORIZON} x --environments, {rollout}", self.steps)
        need(self.prompts >= 1, "prompts", "1 or more", self.prompts)
        need(self.held_out >= 2, "held_out", "2 or more, for an interval", self.held_out)
        need(self.reply_tokens >= 1, "reply_tokens", "1 or more", self.reply_tokens)
        for name in ("entries", "language_steps"):
            need(self.run is None or getattr(self, name) is None, name, "none with --run, which has its own model",
                 getattr(self, name))  # fmt: skip
        need(self.entries is None or self.entries >= 300, "entries", "300 or more: one for each byte, and some",
             self.entries)  # fmt: skip
        need(self.language_steps is None or self.language_steps >= 1, "language_steps", "1 or more",
             self.language_steps)  # fmt: skip

    def task(self, seed: int) -> Task:
        """What the training with a seed is given."""
        made = {"entries": self.entries, "language_steps": self.language_steps}
        return Task(seed, self.run, self.prompts, self.held_out, self.reply_tokens,
                    **{name: value for name, value in made.items() if value is not None})  # fmt: skip

    def settings(self) -> Settings:
        """Of PPO."""
        return settings(self.steps, self.environments)

    def every_seed(self) -> range:
        return range(self.seed, self.seed + self.seeds)


def jobs(arguments: Arguments) -> dict[str, dict[str, list[tuple[Task, Settings]]]]:
    """What is changed → its values → what each seed is trained with; "" → "": as the arguments say."""
    tasks, of = [arguments.task(seed) for seed in arguments.every_seed()], arguments.settings()
    found = {"": {"": [(task, of) for task in tasks]}}
    if arguments.study:
        short = replace(of, steps=min(of.steps, max(STUDY_STEPS, HORIZON * arguments.environments)))
        found["Learning rate"] = {
            f"{rate:g}": [(task, replace(short, learning_rate=rate)) for task in tasks] for rate in RATES
        }
        if arguments.run is None:
            found["Steps of the language model"] = {
                str(steps): [(replace(task, language_steps=steps), short) for task in tasks]
                for steps in (max(1, round(times * tasks[0].language_steps)) for times in LANGUAGE_TIMES)
            }
    return found


def trainings(arguments: Arguments) -> tuple[dict[int, Trained], Study]:
    """Seed → its training, and the study; everything side by side, what is needed twice trained once."""
    wanted = jobs(arguments)
    different = list(dict.fromkeys(job for values in wanted.values() for each in values.values() for job in each))
    done = dict(zip(different, spread(trained, different, "trainings", arguments.workers), strict=True))
    found = {
        name: {value: [done[job] for job in each] for value, each in values.items()} for name, values in wanted.items()
    }
    return dict(zip(arguments.every_seed(), found.pop("")[""], strict=True)), found


def told(of: Trained, whole: bool = True) -> dict[str, Any]:
    """A training as JSON has it; `whole`: with the reward of each question, in their order."""
    outcome = of.outcome
    found: dict[str, Any] = {
        "seed": of.task.seed, "rewards": outcome.means(), "right": outcome.right(), "distinct": outcome.distinct(),
        "gains": {who: outcome.gain(who) for who in NAMES if who != "after"}, "right_gain": outcome.right_gain(),
        "environment_steps": of.settings.taken, "tokens": of.tokens, "seconds": of.seconds,
    }  # fmt: skip
    if whole:
        rewards = {who: [round(one.reward, 4) for one in outcome.replies[who]] for who in POLICIES}
        right = {who: [n for n, one in enumerate(outcome.replies[who]) if one.right] for who in POLICIES}
        found |= {"steps": of.curve[0], "curve": of.curve[1], "reward_of_each": rewards, "numbers_of_right": right,
                  "examples": of.examples}  # fmt: skip
    return found


def about(asked: Questions, one: Trained) -> dict[str, Any]:
    """What is the same for all seeds: the questions, and the replies that need no learning."""
    replies = one.outcome.replies
    return {
        "questions": [prompt.prompt[-1].content for prompt in asked.held_out],
        "facts": [fact(prompt) for prompt in asked.held_out], "known": known(asked),
        "constant": replies["constant"][0].text,
        "unlearned": {who: [round(one.reward, 4) for one in replies[who]] for who in UNLEARNED},
    }  # fmt: skip


def claim(experiment: Experiment, done: dict[int, Trained]) -> None:
    """What learning to reply means, of every seed: better than the start and what needs no learning, and not one reply.

    The worst seed is what is claimed.
    """
    own, seeds = "this project's own bar", f"the worst of {len(done)} seeds"
    others: dict[Who, str] = {"before": "the language model's own", "constant": f"that of the {NAMES['constant']}",
                              "echo": "that of the question as its own reply"}  # fmt: skip
    for who, name in others.items():
        experiment.claim(
            f"reward on held-out questions after PPO, less {name}: lower end of the 95% interval, {seeds}",
            min(of.outcome.gain(who)[0] for of in done.values()), at_least(LEAST_GAIN), own,
        )  # fmt: skip
    experiment.claim(
        f"distinct replies after PPO, share of the held-out questions, {seeds}",
        min(of.outcome.distinct()["after"] for of in done.values()), at_least(LEAST_DISTINCT), own,
    )  # fmt: skip


def summary(seed: int, of: Trained) -> str:
    """A line on one seed."""
    means, right, (low, high) = of.outcome.means(), of.outcome.right(), of.outcome.gain("before")
    return (f"seed {seed}: reward {means['before']:.3f} before, {means['after']:.3f} after (gain {low:.3f} to "
            f"{high:.3f}); right answers {right['before']:.1%} before, {right['after']:.1%} after")  # fmt: skip


def log(experiment: Experiment, done: dict[int, Trained]) -> None:
    """The points of all curves, one after the other."""
    for point in range(max(len(of.curve[0]) for of in done.values())):
        there = {seed: of.curve for seed, of in done.items() if point < len(of.curve[0])}
        values = {f"seed {seed}/steps": steps[point] for seed, (steps, _) in there.items()}
        experiment.log(values | {f"seed {seed}/reward": of[point] for seed, (_, of) in there.items()}, point)


def main(arguments: Arguments) -> None:
    """Train every seed, hold it against what it started from, draw it."""
    asked = questions(arguments.task(arguments.seed))
    with Experiment("chat", arguments) as experiment:
        done, study = trainings(arguments)
        one = next(iter(done.values()))
        experiment.results |= {"settings": asdict(one.settings), "task": asdict(one.task), **about(asked, one),
                               "seeds": [told(of) for of in done.values()]}  # fmt: skip
        log(experiment, done)
        for seed, of in done.items():
            print(summary(seed, of))
        claim(experiment, done)
        experiment.figure("curve", learning(done), SIZE)
        if study:
            experiment.results["study"] = {
                name: {value: [told(of, whole=False) for of in each] for value, each in values.items()}
                for name, values in study.items()
            }
            experiment.figure("study", sensitivity(study), SIZE)


if __name__ == "__main__":
    command_line(main, Arguments, __doc__)
