"""Simulated servers: the real `Router` sends conversations to two versions, the real `verdict` is looked at all along.

    ab_process.judged(gap=0.0, runs=200, rng=rng)      # {"decided": …, "held": …}

Conversations come in one by one, and Thompson sampling routes what is not uniform. People judge a reply when they
like: again and again in old conversations, and now and then they judge anew what they have judged before. Thumbs go up
more and more often for both versions; each conversation has a mood of its own. Beside them duels are fought.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from rlhf.chat.ab_test import Assignment, Outcome, Router, verdict
from rlhf.chat.settings import RoutingSection

LIVE, CHALLENGER = ARMS = ("live", "challenger")
ROUTING = RoutingSection(policy="thompson", uniform_share=0.5)
STEPS = 600
"""Judgements of a run."""
EVERY = 10
"""Judgements between two looks."""
NEW, DUEL, CHANGED = 0.5, 0.2, 0.05
"""Shares of the judgements that begin a conversation, judge a duel, judge anew; the rest are of conversations
that go on."""
FIRST_RATE, LAST_RATE = 0.4, 0.7
MOOD = 2.0
"""Sum of the parameters of the Beta law from which a conversation's rate comes: the smaller, the more alike its
thumbs."""


@dataclass
class Server:
    """One run: what was judged so far."""

    gap: float
    router: Router
    rng: np.random.Generator
    outcomes: list[Outcome] = field(default_factory=list)
    talks: list[tuple[Assignment, float]] = field(default_factory=list)
    """The version of each conversation, and its rate."""

    def step(self, time: int) -> None:
        """One more judgement, of whatever kind."""
        drawn = self.rng.random()
        if drawn < NEW or not self.talks:
            given = self.router.assign(ARMS, self.outcomes)
            rate = FIRST_RATE + (LAST_RATE - FIRST_RATE) * time / STEPS + self.gap * (given.version == CHALLENGER)
            self.talks.append((given, self.rng.beta(MOOD * rate, MOOD * (1 - rate))))
            self._thumb(len(self.talks) - 1, time)
        elif drawn < NEW + DUEL:
            won = float(self.rng.random() < 0.5 + self.gap / 2)
            sides = zip(ARMS, (1 - won, won), strict=True)
            self.outcomes += [Outcome(arm, value, True, time, f"duel {time}", duel=True) for arm, value in sides]
        elif drawn < NEW + DUEL + CHANGED:
            place = int(self.rng.integers(len(self.outcomes)))
            old = self.outcomes[place]
            if not old.duel:  # in the same mood
                _, rate = self.talks[int(old.group)]
                self.outcomes[place] = replace(old, value=float(self.rng.random() < rate), time=time)
        else:
            self._thumb(int(self.rng.integers(len(self.talks))), time)

    def _thumb(self, talk: int, time: int) -> None:
        given, rate = self.talks[talk]
        up = float(self.rng.random() < rate)
        self.outcomes.append(Outcome(given.version, up, given.uniform, time, str(talk)))


def judged(gap: float, runs: int, rng: np.random.Generator) -> dict[str, float]:
    """What a look after every ten judgements comes to.

    Args:
        gap: by how much thumbs go up more often for the challenger; its duels are won as much more often, too.

    Returns:
        `decided`, share of the runs with a decision; `right`, of those with one for the better version; `held`, share
        whose interval held the gap at every look; `median`, judgements of all kinds at the decision, or at the
        end where there is none.
    """
    ends, held, right = [], [], []
    for _ in range(runs):
        server = Server(gap, Router(ROUTING, int(rng.integers(1 << 32))), rng)
        end, inside, winner = np.inf, True, "continue"
        for time in range(1, STEPS + 1):
            server.step(time)
            if time % EVERY == 0:
                found = verdict(server.outcomes, LIVE, CHALLENGER)
                inside &= found.interval[0] <= gap <= found.interval[1]
                if found.decision != "continue" and end == np.inf:
                    end, winner = time, found.decision
        ends.append(end)
        held.append(inside)
        right.append(winner == "promote")
    return {
        "decided": float(np.isfinite(ends).mean()), "right": float(np.mean(right)), "held": float(np.mean(held)),
        "median": float(np.median(np.minimum(ends, STEPS))),
    }  # fmt: skip
