"""The feedback store does what a dictionary would, remembers it, is safe to repeat, and opens only its own files."""

import json
import os
import shutil
import sqlite3
import tempfile
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rlhf.chat.feedback import FILE, Duel, FeedbackStore, KeyReused, NotFound, Rating, StoredMessage
from rlhf.chat.store import schema
from rlhf.errors import UserError
from tests.chat.stored import duel, opened, talk, turn


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path) as opened_store:
        yield opened_store


def raw(path):
    """A connection of some other program."""
    return closing(sqlite3.connect(path, isolation_level=None))


def test_every_commit_is_flushed_and_written_ahead(store):
    with store._db.reading() as c:
        pragmas = {name: c.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
        assert pragmas == {"journal_mode": "wal", "synchronous": 2}  # 2 is FULL
        assert c.execute("PRAGMA busy_timeout").fetchone()[0] == 30_000
        assert c.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_nobody_else_on_the_machine_may_read_it(store):
    assert store.file.stat().st_mode & 0o077 == 0


def test_a_tree_of_messages_comes_back_whole(store, tmp_path):
    question, reply = talk(store, "ann", "2+2?", "4")
    conversation = question.conversation
    edited = turn(store, conversation, None, "3+3?")
    other = turn(store, conversation, question.id, "5", finish_reason="cancelled", routed=0.25, uniform=True)
    more = turn(store, conversation, reply.id, "and doubled?")
    store.set_reward(reply.id, 1.5)
    store.close()
    with opened(tmp_path) as again:
        scored = replace(reply, reward=1.5)
        assert again.messages(conversation) == [question, scored, edited, other, more]
        assert again.path(more.id) == [question, scored, more]
        assert again.path(other.id) == [question, other]
        assert again.replies() == [scored, other]
        assert again.replies(limit=1) == [other]
        assert again.message(other.id).settings == {"temperature": 0.7, "seed": 1}


def test_conversations_are_listed_as_they_were_used(store):
    first, second, third = (store.new_conversation("ann", title) for title in "abc")
    store.new_conversation("bob")
    store.new_conversation("ann", kind="duel")
    turn(store, first.id, None, "hello")
    store.hide(second.id)
    store.rename(third.id, "renamed")
    store.assign(first.id, "ppo-2")
    assert [(one.id, one.title, one.version) for one in store.conversations("ann")] == [
        (first.id, "a", "ppo-2"),
        (third.id, "renamed", None),
    ]
    assert store.conversation(second.id).hidden


def test_a_new_rating_replaces_the_old_one_and_the_log_keeps_both(store):
    question, reply = talk(store, "ann", "2+2?", "5")
    store.rate("ann", reply.id, Rating(thumb=1, comment="fine"))
    store.rate("ann", reply.id, Rating(thumb=-1, correct=1, correction="4"))
    store.rate("bob", reply.id, Rating(helpful=5))
    assert store.rating("ann", reply.id) == Rating(thumb=-1, correct=1, correction="4")
    assert store.ratings(question.conversation, "bob") == {reply.id: Rating(helpful=5)}
    assert [(one.user, one.message, one.rating.thumb) for one in store.rated()] == [
        ("ann", reply, -1),
        ("bob", reply, None),
    ]
    store.unrate("ann", reply.id)
    store.unrate("ann", reply.id)
    store.rate("bob", reply.id, Rating())  # says nothing any more
    assert store.rating("ann", reply.id) is None and store.rating("bob", reply.id) is None
    events = [(event.kind, event.data["user"], event.data.get("thumb")) for event in store.events()]
    assert events == [("rate", "ann", 1), ("rate", "ann", -1), ("rate", "bob", None)] + [
        ("unrate", "ann", None),
        ("unrate", "bob", None),
    ]


def test_a_pair_is_one_duel_a_user_whatever_the_sides(store):
    first = duel(store, "ann", "2+2?", "4", "5")
    swapped = store.open_duel("ann", first.prompt_message, first.right, first.left, "asked")
    bobs = store.open_duel("bob", first.prompt_message, first.right, first.left, "asked")
    assert swapped == first
    assert bobs.id != first.id and bobs.left == first.right
    voted = store.vote("ann", first.id, "left", latency_ms=1200)
    assert (voted.choice, voted.latency_ms, voted.winner) == ("left", 1200, first.left)
    assert store.duels(voted=True) == [voted] and store.duels(voted=False) == [bobs]
    assert store.duels(since=voted.voted + 60) == []
    assert store.vote("ann", first.id, "both_bad", 3000).winner is None
    assert voted.blind and not store.duel(first.id).blind  # with a vote the names are told
    assert store.unvote("ann", first.id) == replace(first, votes=2) == store.duel(first.id)
    assert [event.kind for event in store.events()] == ["vote", "vote", "unvote"]


def test_a_duel_may_have_an_id_that_is_known_before(store):
    first = duel(store, "ann", "2+2?", "4", "5")
    assert store.open_duel("bob", first.prompt_message, first.left, first.right, "random", id="known").id == "known"
    assert store.duel("known").user == "bob"


def test_somebody_elses_duel_is_not_found(store):
    one = duel(store, "ann", "2+2?", "4", "5")
    with pytest.raises(NotFound):
        store.vote("bob", one.id, "left")
    assert store.duel(one.id).choice is None


def test_what_is_not_a_pair_is_no_duel(store):
    question, reply = talk(store, "ann", "2+2?", "4")
    _, foreign = talk(store, "ann", "2+2?", "5")
    for left, right in ((reply.id, reply.id), (reply.id, foreign.id), (reply.id, question.id)):
        with pytest.raises(ValueError, match="not two replies"):
            store.open_duel("ann", question.id, left, right, "asked")


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.conversation("x"),
        lambda store: store.rename("x", "y"),
        lambda store: store.messages("x"),
        lambda store: store.message("x"),
        lambda store: store.path("x"),
        lambda store: store.rate("ann", "x", Rating(thumb=1)),
        lambda store: store.vote("ann", "x", "left"),
        lambda store: store.add_message(StoredMessage("m", "x", None, "user", "hello")),
    ],
)
def test_what_is_not_there_is_not_found(store, call):
    with pytest.raises(NotFound, match="There is no .* 'x'"):
        call(store)
    assert store.events() == []


@pytest.mark.parametrize("bad", [{"thumb": 0}, {"thumb": True}, {"safe": 6}, {"correct": "5"}, {"correction": 4}])
def test_a_rating_off_its_scale_is_refused(bad):
    with pytest.raises(UserError, match=f"Bad '{next(iter(bad))}'"):
        Rating(**bad)


@pytest.mark.parametrize(
    "vote", [("middle", 1), ("left", -1), ("left", 1.5), ("left", True), ("left", 1 << 80), (None, 1)]
)
def test_a_vote_that_is_none_is_refused(store, vote):
    one = duel(store, "ann", "2+2?", "4", "5")
    with pytest.raises(UserError, match="Bad '(choice|latency_ms)'"):
        store.vote("ann", one.id, *vote)
    assert store.duel(one.id).choice is None


def test_half_a_character_is_refused_and_nothing_is_stored(store):
    question, reply = talk(store, "ann", "2+2?", "4")
    with pytest.raises(UserError, match="cannot be stored"):
        store.rate("ann", reply.id, Rating(correction="\ud800"))
    store.rate("ann", reply.id, Rating(correction="\0 4 \U0001f600"))
    assert store.rating("ann", reply.id).correction == "\0 4 \U0001f600"
    assert len(store.events()) == 1


def test_a_key_makes_a_call_safe_to_repeat(store):
    first = store.new_conversation("ann", "sums", key="k1")
    assert store.new_conversation("ann", "sums", key="k1") == first
    assert store.new_conversation("bob", "sums", key="k1") != first  # keys are each user's own
    question = store.add_message(StoredMessage("q", first.id, None, "user", "2+2?"), key="k2")
    assert store.add_message(StoredMessage("q2", first.id, None, "user", "2+2?"), key="k2") == question
    reply = turn(store, first.id, "q", "4")
    store.rate("ann", reply.id, Rating(thumb=1), key="k3")
    store.unrate("ann", reply.id, key="k4")
    assert store.rate("ann", reply.id, Rating(thumb=1), key="k3") == Rating(thumb=1)
    assert store.rating("ann", reply.id) is None  # what came later stands
    assert [event.kind for event in store.events()] == ["rate", "unrate"]
    for call in (
        lambda: store.new_conversation("ann", "other", key="k1"),
        lambda: store.rate("ann", reply.id, Rating(thumb=-1), key="k3"),
        lambda: store.unrate("ann", reply.id, key="k3"),
    ):
        with pytest.raises(KeyReused, match="'k"):
            call()


def test_a_call_that_failed_does_not_use_up_its_key(store):
    one = duel(store, "ann", "2+2?", "4", "5")
    with pytest.raises(NotFound):
        store.vote("bob", one.id, "left", 900, key="k")
    bobs = store.open_duel("bob", one.prompt_message, one.left, one.right, "asked")
    assert store.vote("bob", bobs.id, "left", 900, key="k").choice == "left"


@pytest.mark.parametrize("change", ["UPDATE events SET kind = 'x'", "DELETE FROM events"])
def test_the_log_cannot_be_changed_even_by_hand(store, change):
    store.log("blocked", reason="words")
    with raw(store.file) as c, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        c.execute(change)
    assert [(event.kind, event.data) for event in store.events("blocked")] == [("blocked", {"reason": "words"})]


def test_the_log_gives_the_latest_lines(store):
    for number in range(5):
        store.log("even" if number % 2 == 0 else "odd", number=number)
    assert [event.data["number"] for event in store.events(limit=2)] == [3, 4]
    assert [event.data["number"] for event in store.events("even", limit=2)] == [2, 4]
    assert store.events("odd", since=store.events()[-1].time + 60) == []


def test_counts(store):
    assert set(store.counts().values()) == {0}
    for choice in ("left", "left", "right", "tie", "both_bad", None):
        one = duel(store, "ann", "2+2?", "4", "5")
        if choice:
            store.vote("ann", one.id, choice)
    _, reply = talk(store, "bob", "2+2?", "4")
    store.rate("bob", reply.id, Rating(thumb=-1, correction="four", safe=5))
    store.rate("ann", reply.id, Rating(thumb=1))
    store.unrate("ann", reply.id)
    store.log("blocked", reason="rate")
    expected = {"duels": 5, "left_wins": 2, "right_wins": 1, "ties": 1, "both_bad": 1, "open_duels": 1}
    expected |= {"ratings": 1, "thumbs_up": 0, "thumbs_down": 1, "corrections": 1, "criteria": 1, "comments": 0}
    expected |= {"conversations": 7, "users": 2, "messages": 20, "replies": 13, "undone": 1, "blocked": 1}
    assert store.counts() == expected | {"errors": 0, "timeouts": 0}


def test_what_is_written_together_is_written_whole_or_not_at_all(store):
    _, reply = talk(store, "ann", "2+2?", "4")
    with pytest.raises(ZeroDivisionError), store.together():
        store.rate("ann", reply.id, Rating(thumb=1))
        store.log("x", one=1 / 0)
    assert store.rating("ann", reply.id) is None and store.events() == []
    with store.together():
        store.rate("ann", reply.id, Rating(thumb=1))
        assert store.rating("ann", reply.id) == Rating(thumb=1)
    with store.snapshot(), pytest.raises(RuntimeError, match="cannot begin to write"):
        store.log("x")


def test_threads_write_at_once_and_lose_nothing(store):
    replies = [talk(store, "ann", "2+2?", str(number))[1].id for number in range(4)]
    failed = []

    def work(user):
        try:
            for reply in replies:
                store.rate(user, reply, Rating(thumb=1))
                store.rating(user, reply)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"user {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert store.counts()["thumbs_up"] == len(store.events("rate")) == 32


# Files


def older(path, version):
    """A file as the program wrote it when the schema was young, with a conversation, a reply and a vote in it."""
    with raw(path) as c:
        for statement in [one for step in schema.STEPS[:version] for one in step]:
            c.execute(statement)
        c.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        c.execute(f"PRAGMA user_version = {version}")
        c.execute("PRAGMA journal_mode = WAL")
        c.execute(
            "INSERT INTO conversations (id, user, title, kind, created, updated) VALUES ('c', 'ann', '', 'duel', 1, 1)"
        )
        message = "INSERT INTO messages (id, conversation, parent, role, content, settings, created, blocked) VALUES "
        c.execute(message + "('q', 'c', NULL, 'user', '2+2?', '{}', 1, 0)")
        c.execute(message + "('a', 'c', 'q', 'assistant', '4', '{\"seed\": 7}', 2, 0)")
        c.execute(message + "('b', 'c', 'q', 'assistant', '5', '{}', 3, 0)")
        names = "id, user, prompt_message, left_reply, right_reply, chosen_by, created, choice, voted"
        c.execute(f"INSERT INTO duels ({names}) VALUES ('d', 'ann', 'q', 'b', 'a', 'random', 4, 'right', 5)")
        for time, choice in ((4.5, "left"), (5, "right")):
            data = json.dumps({"user": "ann", "duel": "d", "choice": choice, "latency_ms": None})
            c.execute("INSERT INTO events (time, kind, data) VALUES (?, 'vote', ?)", (time, data))


def columns(path):
    with raw(path) as c:
        tables = [name for (name,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {table: {row[1:4] for row in c.execute(f"PRAGMA table_info({table})")} for table in tables}


def test_an_older_file_is_brought_up_to_date_and_keeps_everything(tmp_path):
    older(tmp_path / FILE, version=1)
    with opened(tmp_path) as store:
        assert store.duel("d") == Duel("d", "ann", "q", "b", "a", "random", 4, "right", None, 5, votes=2)
        assert not store.duel("d").blind
        reply = store.message("a")
        assert (reply.content, reply.settings, reply.routed, reply.uniform) == ("4", {"seed": 7}, None, False)
        store.assign("c", "ppo-2")
        turn(store, "c", "a", "and doubled?")
        routed = turn(store, "c", "q", "four", routed=0.9, uniform=True)
        assert store.message(routed.id) == routed
    opened(tmp_path / "new").close()
    assert columns(tmp_path / FILE) == columns(tmp_path / "new" / FILE)
    with raw(tmp_path / FILE) as c:
        assert c.execute("PRAGMA user_version").fetchone() == (len(schema.STEPS),) == (4,)


def test_a_migration_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    older(tmp_path / FILE, version=1)
    before = columns(tmp_path / FILE)
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("CREATE TABLE extra (x)", "CREATE TABLE extra (x)")))
    with pytest.raises(sqlite3.OperationalError, match="extra already exists"):
        opened(tmp_path)
    assert columns(tmp_path / FILE) == before
    monkeypatch.undo()
    opened(tmp_path).close()


def newer_schema(path):
    opened(path.parent).close()
    with raw(path) as c:
        c.execute("CREATE TABLE later (x)")
        c.execute("PRAGMA user_version = 99")


def foreign_database(path):
    with raw(path) as c:
        c.execute("CREATE TABLE events (x)")


def foreign_ahead(path):
    """A database of another program that writes ahead, too."""
    with raw(path) as c:
        c.execute("PRAGMA journal_mode = WAL")
        c.execute("CREATE TABLE events (x)")


FOREIGN = {
    "newer": (newer_schema, "written by a newer version"),
    "foreign": (foreign_database, "no feedback store"),
    "foreign, write-ahead": (foreign_ahead, "no feedback store"),
    "text": (lambda path: path.write_text("hello\n" * 500), "no feedback store"),
    "empty": (lambda path: path.touch(), "no feedback store"),
    "folder": (lambda path: path.mkdir(), "no feedback store"),
    "cut": (lambda path: path.write_bytes(b"SQLite format 3\0 and then no more"), "no feedback store"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path, name):
    make, words = FOREIGN[name]
    path = tmp_path / FILE
    make(path)
    before = {one.name: one.read_bytes() if one.is_file() else None for one in tmp_path.iterdir()}
    with pytest.raises(UserError, match=words) as refused:
        FeedbackStore(path)
    assert "not changed" in str(refused.value)
    assert {one.name: one.read_bytes() if one.is_file() else None for one in tmp_path.iterdir()} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user who may not read the file")
def test_a_file_that_may_not_be_read_is_refused():
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        opened(folder).close()
        os.seteuid(65534)
        try:
            with pytest.raises(UserError, match="cannot be read"):
                opened(folder)
            with pytest.raises(UserError, match="cannot be used"):
                opened(folder / "new")
        finally:
            os.seteuid(0)
        assert [path.name for path in folder.iterdir()] == [FILE]
        opened(folder).close()
    finally:
        shutil.rmtree(folder)


def test_a_missing_file_is_made_only_where_it_may_be(tmp_path):
    with pytest.raises(UserError, match="There is no feedback store"):
        FeedbackStore(tmp_path / "a" / FILE, create=False)
    assert list(tmp_path.iterdir()) == []
    opened(tmp_path / "a").close()
    assert [path.name for path in (tmp_path / "a").iterdir()] == [FILE]  # nothing is left beside it
    FeedbackStore(tmp_path / "a" / FILE, create=False).close()


def test_a_damaged_file_says_so(tmp_path):
    with opened(tmp_path) as store:
        for _ in range(30):
            talk(store, "ann", "2+2?" * 100, "4")
    path = tmp_path / FILE
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(UserError, match="is damaged"), opened(tmp_path) as store:
        store.conversations("ann")


# Anything, in any order

USERS = st.sampled_from(["ann", "bob"])
INDEX = st.integers(0, 3)
RATINGS = st.builds(
    Rating,
    thumb=st.sampled_from([None, 1, -1]),
    helpful=st.none() | st.integers(1, 5),
    correction=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
CHOICES = st.sampled_from(["left", "right", "tie", "both_bad"])


class LikeADictionary(RuleBasedStateMachine):
    """Ratings and votes of two users on four duels, beside two dictionaries."""

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp())
        self.store = opened(self.folder)
        self.ratings, self.votes, self.changes = {}, {}, []
        self.keys, self.answers = {}, {}
        first = [duel(self.store, "ann", f"{number}+{number}?", "4", "5") for number in range(4)]
        again = [self.store.open_duel("bob", one.prompt_message, one.right, one.left, "asked") for one in first]
        self.pairs = {"ann": first, "bob": again}

    @rule(user=USERS, index=INDEX, rating=RATINGS)
    def rate(self, user, index, rating):
        reply = self.pairs["ann"][index].left
        assert self.store.rate(user, reply, rating) == rating
        if rating != Rating():
            self.ratings[user, reply] = rating
            self.changes.append("rate")
        elif self.ratings.pop((user, reply), None):
            self.changes.append("unrate")

    @rule(user=USERS, index=INDEX)
    def unrate(self, user, index):
        reply = self.pairs["ann"][index].left
        self.store.unrate(user, reply)
        if self.ratings.pop((user, reply), None):
            self.changes.append("unrate")

    @rule(user=USERS, index=INDEX, choice=CHOICES, latency=st.none() | st.integers(0, 10**6))
    def vote(self, user, index, choice, latency):
        one = self.pairs[user][index]
        assert self.store.vote(user, one.id, choice, latency).choice == choice
        self.votes[one.id] = choice, latency
        self.changes.append("vote")

    @rule(user=USERS, index=INDEX)
    def unvote(self, user, index):
        one = self.pairs[user][index]
        assert replace(self.store.unvote(user, one.id), votes=0) == one
        if self.votes.pop(one.id, None):
            self.changes.append("unvote")

    @rule(user=USERS, index=INDEX, choice=CHOICES, key=st.sampled_from(["k1", "k2"]))
    def vote_twice_with_one_key(self, user, index, choice, key):
        """The second time nothing happens, whatever has happened in between; a key names one request."""
        one = self.pairs[user][index]
        request = self.keys.setdefault((user, key), (one.id, choice))
        if request != (one.id, choice):
            with pytest.raises(KeyReused):
                self.store.vote(user, one.id, choice, 1000, key=key)
            return
        if (user, key) not in self.answers:
            self.votes[one.id] = choice, 1000
            self.changes.append("vote")
            self.answers[user, key] = self.store.vote(user, one.id, choice, 1000, key=key)
        assert self.store.vote(user, one.id, choice, 1000, key=key) == self.answers[user, key]

    @rule()
    def reopen(self):
        self.store.close()
        self.store = opened(self.folder)

    @invariant()
    def it_is_like_the_dictionaries(self):
        replies = [one.left for one in self.pairs["ann"]]
        found = {(user, reply): self.store.rating(user, reply) for user in self.pairs for reply in replies}
        assert {pair: rating for pair, rating in found.items() if rating} == self.ratings
        assert {one.id: (one.choice, one.latency_ms) for one in self.store.duels(voted=True)} == self.votes
        assert [event.kind for event in self.store.events(limit=10**6)] == self.changes
        counts = self.store.counts()
        assert counts["thumbs_up"] == sum(rating.thumb == 1 for rating in self.ratings.values())
        assert counts["ties"] == sum(choice == "tie" for choice, _ in self.votes.values())

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)


TestLikeADictionary = LikeADictionary.TestCase
TestLikeADictionary.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
