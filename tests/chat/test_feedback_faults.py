"""The store under `kill -9`, on a full disk, between processes: what was acknowledged is there, and the file is whole.

SOAK=1 python -m pytest -s tests/chat/test_feedback_faults.py        # 40 kills
"""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from rlhf.chat.feedback import FILE, FeedbackStore, StoreFull
from tests.chat.stored import opened, talk

KILLS = 40 if os.environ.get("SOAK") else 5
REPO = Path(__file__).resolve().parents[2]


def start(*arguments):
    command = [sys.executable, "-m", "tests.chat.feedback_writer", *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True)


def said(process):
    """What a process has acknowledged and nobody has read yet, to its end; a line that the kill has cut was none."""
    return [json.loads(line) for line in process.stdout if line.endswith("\n")]


def is_whole(path):
    with closing(sqlite3.connect(path)) as connection:
        return (
            connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            and not connection.execute("PRAGMA foreign_key_check").fetchall()
        )


def judged(store, user):
    """The log's lines about a user, as the writer says them."""
    lines = []
    for event in store.events(limit=10**6):
        data = event.data
        if data.get("user") == user:
            about = data["message"] if event.kind in ("rate", "unrate") else data["duel"]
            lines.append([event.kind, about, data.get("thumb", data.get("choice"))])
    return lines


def standing(lines):
    """What stands after these judgements: message or duel → thumb or choice."""
    found = {}
    for kind, about, what in lines:
        found.pop(about, None)
        if not kind.startswith("un"):
            found[about] = what
    return found


def stands(store, user):
    ratings = {one.message.id: one.rating.thumb for one in store.rated() if one.user == user}
    return ratings | {one.id: one.choice for one in store.duels(voted=True) if one.user == user}


def test_whatever_was_acknowledged_survives_kill_9(tmp_path):
    dice, acknowledged, between = random.Random(), 0, 0
    opened(tmp_path).close()
    for number in range(KILLS):
        user = f"user {number}"
        process = start("judge", tmp_path / FILE, user, 100_000)
        lines = [json.loads(process.stdout.readline()) for _ in range(dice.randrange(1, 60))]
        time.sleep(dice.uniform(0, 0.005))
        process.kill()
        lines += said(process)
        process.wait()
        with opened(tmp_path) as store:
            log = judged(store, user)
            assert log[: len(lines)] == lines
            assert len(log) - len(lines) in (0, 1)  # stored, but killed before it could be said
            assert stands(store, user) == standing(log)
        assert is_whole(tmp_path / FILE)
        acknowledged, between = acknowledged + len(lines), between + len(log) - len(lines)
    print(
        f"\n{KILLS} kills: {acknowledged} judgements acknowledged, 0 lost; {between} killed before the acknowledgement"
    )


def test_a_store_is_there_whole_or_not_at_all_when_its_maker_is_killed(tmp_path):
    for number in range(KILLS):
        folder = tmp_path / str(number)
        process = start("create", folder)
        made = [process.stdout.readline() for _ in range(random.randrange(1, 10))]
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        made += said(process)
        process.wait()
        files = list(folder.glob(f"*/{FILE}"))
        assert len(files) - len(made) in (0, 1)
        for file in files:
            FeedbackStore(file).close()
            assert is_whole(file)


def test_two_processes_write_at_once_and_lose_nothing(tmp_path):
    """A third one, which is killed meanwhile, does not hold them up."""
    opened(tmp_path).close()
    processes = {user: start("judge", tmp_path / FILE, user, 300) for user in ("ann", "bob")}
    victim = start("judge", tmp_path / FILE, "cleo", 100_000)
    lines = [json.loads(victim.stdout.readline()) for _ in range(20)]
    victim.kill()
    lines += said(victim)
    victim.wait()
    with opened(tmp_path) as store:  # a fourth one
        for user, process in processes.items():
            acknowledged = said(process)
            assert process.wait() == 0
            assert judged(store, user) == acknowledged
            assert stands(store, user) == standing(acknowledged)
        assert judged(store, "cleo")[: len(lines)] == lines
    assert is_whole(tmp_path / FILE)


def test_where_files_may_not_grow_it_says_so_and_goes_on_once_they_may(tmp_path):
    opened(tmp_path).close()
    process = start("fill", tmp_path / FILE, 300_000)
    lines = said(process)
    assert process.wait() == 0
    notes = [number for what, number in lines if what == "note"]
    [message] = [text for what, text in lines if what == "full"]
    assert "the disk is full" in message and "to do: free some space" in message
    assert notes == [*range(len(notes) - 1), -1] and len(notes) > 10
    assert ["read", len(notes) - 1] in lines  # it can be read all the while
    with opened(tmp_path) as store:
        assert [event.data["number"] for event in store.events()] == notes
    assert is_whole(tmp_path / FILE)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_later_writes_work(small_disk):
    with opened(small_disk) as store:
        _, reply = talk(store, "ann", "2+2?", "4")
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 400_000)
        written = 0
        with pytest.raises(StoreFull, match="cannot grow"):
            for written in range(10_000):  # noqa: B007
                store.log("note", number=written, text="x" * 1000)
        with (small_disk / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match="No space"):
            while True:  # to the last byte
                rest.write(b"x" * 512)
        assert len(store.events(limit=10**6)) == written
        with pytest.raises(StoreFull):
            store.rename(reply.conversation, "x" * 100_000)
        assert store.message(reply.id) == reply
        with pytest.raises(StoreFull, match="cannot grow"):
            opened(small_disk / "another")
        ballast.unlink()
        (small_disk / "rest").unlink()
        store.rename(reply.conversation, "there is room")
    with opened(small_disk) as store:
        assert store.conversations("ann")[0].title == "there is room"
        assert len(store.events(limit=10**6)) == written
    assert is_whole(small_disk / FILE)
