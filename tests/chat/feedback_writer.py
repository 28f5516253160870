"""A process that judges at random and says so, line by line, once each judgement is stored; to be killed by a test.

python -m tests.chat.feedback_writer judge STORE USER COUNT   # a line: ["rate", message, thumb], ["vote", duel, choice]
python -m tests.chat.feedback_writer create FOLDER              # a line: the name of a new store
python -m tests.chat.feedback_writer fill STORE BYTES           # until files may not grow any more, then goes on
"""

import json
import os
import random
import resource
import sys
from pathlib import Path
from typing import Any

from rlhf.chat.feedback import FILE, FeedbackStore, Rating, StoreFull
from tests.chat.stored import duel, talk


def say(*said: Any) -> None:
    os.write(1, (json.dumps(said) + "\n").encode())


def judge(store: FeedbackStore, user: str, count: int) -> None:
    dice = random.Random()
    replies = [talk(store, user, f"{number}?", "a reply")[1].id for number in range(4)]
    duels = [duel(store, user, f"{number}?", "a", "b").id for number in range(4)]
    for _ in range(count):
        what = dice.choice(["rate", "unrate", "vote", "unvote"])
        if what == "rate":
            thumb = dice.choice([1, -1])
            reply = dice.choice(replies)
            store.rate(user, reply, Rating(thumb=thumb), key=str(dice.random()))
            say("rate", reply, thumb)
        elif what == "vote":
            one, choice = dice.choice(duels), dice.choice(["left", "right", "tie", "both_bad"])
            store.vote(user, one, choice, 5000)
            say("vote", one, choice)
        elif what == "unrate" and (rated := [reply for reply in replies if store.rating(user, reply)]):
            reply = dice.choice(rated)
            store.unrate(user, reply)
            say("unrate", reply, None)
        elif what == "unvote" and (voted := [one for one in duels if store.duel(one).choice]):
            one = dice.choice(voted)
            store.unvote(user, one)
            say("unvote", one, None)


def create(folder: Path) -> None:
    for number in range(10_000):
        FeedbackStore(folder / str(number) / FILE).close()
        say(str(number))


def fill(store: FeedbackStore, size: int) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        for number in range(10_000):
            store.log("note", number=number, text="x" * 1000)
            say("note", number)
    except StoreFull as error:
        say("full", str(error))
    say("read", len(store.events(limit=10**6)))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    store.log("note", number=-1)
    say("note", -1)


if __name__ == "__main__":
    work, place, *more = sys.argv[1:]
    if work == "create":
        create(Path(place))
    elif work == "fill":
        fill(FeedbackStore(Path(place)), int(more[0]))
    else:
        judge(FeedbackStore(Path(place)), more[0], int(more[1]))
