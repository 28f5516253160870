"""Saved conversations: what comes back, and that no name and no link leads outside the folder."""

import json
import os
import stat
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlhf.chat.terminal.conversations import LONGEST_FILE, ConversationFolder, NameTaken
from rlhf.chat.terminal.transcript import Exchange, Transcript
from rlhf.errors import UserError
from rlhf.records import Message

ROME = Transcript(
    "Be brief.",
    (
        Exchange("Where is Rome?", "In Italy.", "ppo", "stop", 7),
        Exchange("Wo liegt Köln? 🇩🇪", "Am Rhein\n\tdort", "ppo", "cancelled", 8),
    ),
)
BAD_NAMES = (
    "", " ", "../x", "..", ".", "a/../../x", "/etc/passwd", "/tmp/x", "~/x", "~", "~root", "a\0b", "a\nb", "x" * 300,
    "a\\b", "..\\x", "C:\\x", "C:x", "con", "CON.json", "nul.txt", "Com1", "LPT¹.json", ".hidden", "-rf", "a|b", "a*",
    "x.", "\u202egnp.exe", "\ud800", "$(id)/x", "file:///etc/passwd",
)  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    return ConversationFolder(tmp_path / "run" / "conversations")


def everything(folder):
    """All there is below a folder, links not followed, with contents."""
    return {str(path): path.is_file() and not path.is_symlink() and path.read_bytes() for path in folder.rglob("*")}


def test_what_is_saved_comes_back(kept):
    path = kept.save("rome", ROME)
    assert path == kept.folder / "rome.json" and kept.load("rome") == kept.load("rome.json") == ROME
    assert kept.names() == ["rome"] and os.listdir(kept.folder) == ["rome.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(kept.folder.stat().st_mode) == 0o700
    assert json.loads(path.read_text())["exchanges"][0]["reply"] == "In Italy."


@given(
    system=st.text(st.characters(exclude_categories=["Cs"])),
    said=st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())),
)
def test_any_text_comes_back(tmp_path_factory, system, said):
    kept = ConversationFolder(tmp_path_factory.mktemp("any"))
    transcript = Transcript(system, tuple(Exchange(text, text[::-1], "v", blocked=blocked) for text, blocked in said))
    kept.save("any", transcript)
    assert kept.load("any") == transcript


def test_nothing_is_replaced_unasked(kept):
    kept.save("rome", ROME)
    with pytest.raises(NameTaken, match="another name"):
        kept.save("rome", Transcript())
    assert kept.load("rome") == ROME
    kept.save("rome", Transcript(), overwrite=True)
    assert kept.load("rome") == Transcript() and os.listdir(kept.folder) == ["rome.json"]


def test_of_many_who_save_one_name_at_once_one_wins(kept):
    kept.save("other", ROME)
    outcomes = []

    def save(number):
        try:
            outcomes.append(kept.save("rome", Transcript(str(number))) and number)
        except NameTaken:
            pass

    threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1 and kept.load("rome").system == str(outcomes[0])
    assert sorted(os.listdir(kept.folder)) == ["other.json", "rome.json"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_bad_names_are_refused_and_nothing_is_written(kept, tmp_path, name):
    before = everything(tmp_path)
    for attempt in (lambda: kept.save(name, ROME, overwrite=True), lambda: kept.load(name)):
        with pytest.raises(UserError, match=r"(?s)no name for a conversation.*save rome"):
            attempt()
    assert everything(tmp_path) == before


@given(name=st.one_of(st.text(), st.lists(st.sampled_from(["..", ".", "/", "\\", "~", "a", "\0", "con"])).map("".join)))
@example("a" * 100)
@example("é" * 100)
@example("𝒳" * 100)
def test_no_name_leads_outside(tmp_path_factory, name):
    outside = tmp_path_factory.mktemp("outside")
    kept = ConversationFolder(outside / "conversations")
    kept.save("first", ROME)
    try:
        path = kept.save(name, ROME)
    except UserError as refused:
        assert str(refused)
        assert os.listdir(kept.folder) == ["first.json"]
    else:
        assert path.parent == kept.folder and len(os.listdir(kept.folder)) == 2 and kept.load(name) == ROME
    assert os.listdir(outside) == ["conversations"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_is_a_link_is_neither_read_nor_written(kept, tmp_path, overwrite):
    kept.save("rome", ROME)
    outside = tmp_path / "secret.json"
    outside.write_bytes((kept.folder / "rome.json").read_bytes())
    (kept.folder / "link.json").symlink_to(outside)
    (kept.folder / "dangling.json").symlink_to(tmp_path / "nowhere.json")
    before = everything(tmp_path)
    for name in ("link", "dangling"):
        with pytest.raises(UserError, match="no plain file"):
            kept.save(name, Transcript(), overwrite)
        with pytest.raises(UserError, match="symbolic link"):
            kept.load(name)
    assert everything(tmp_path) == before and kept.names() == ["rome"]


def test_a_folder_that_is_a_link_is_not_used(kept, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept.folder.parent.mkdir()
    kept.folder.symlink_to(elsewhere)
    for attempt in (lambda: kept.save("rome", ROME), lambda: kept.load("rome"), kept.names):
        with pytest.raises(UserError, match=r"(?s)is no folder.*symbolic link"):
            attempt()
    assert not list(elsewhere.iterdir())


def test_what_is_no_plain_file_is_not_waited_for(kept):
    kept.save("rome", ROME)
    os.mkfifo(kept.folder / "pipe.json")
    (kept.folder / "folder.json").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(UserError, match="cannot be read"):
            kept.load(name)
        with pytest.raises(UserError, match="no plain file"):
            kept.save(name, ROME, overwrite=True)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "Invalid JSON"),
        (b'{"format": "rlhf-conv', "Invalid JSON"),
        (b"\xff\xfe\x00", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b'{"messages": []}', "format: Field required"),
        (b'{"format": "other", "format_version": 1, "system": "", "exchanges": []}', "format: Input should be"),
        (b'{"format": "rlhf-conversation", "format_version": 1, "system": 3, "exchanges": []}', "system: "),
        (b'{"format": "rlhf-conversation", "format_version": 1, "system": "", "exchanges": [{}]}', "exchanges.0"),
        (b'{"format": "rlhf-conversation", "format_version": 2, "system": "", "exchanges": []}', "newer version"),
        (b"[]", "Input should be an object"),
        (b" " * (LONGEST_FILE + 1), "more than 16 MiB"),
    ],
)  # fmt: skip
def test_damaged_and_foreign_files_are_refused(kept, content, found):
    kept.folder.mkdir(parents=True)
    (kept.folder / "bad.json").write_bytes(content)
    with pytest.raises(UserError, match=found):
        kept.load("bad")


def test_a_name_that_is_not_there_is_told(kept):
    with pytest.raises(UserError, match="no conversation was saved yet"):
        kept.load("rome")
    assert kept.names() == [] and not kept.folder.exists()
    kept.save("rome", ROME)
    with pytest.raises(UserError, match="No such file"):
        kept.load("paris")


def test_a_full_disk_is_told_and_leaves_nothing(kept, tmp_path):
    kept.save("rome", ROME)
    big = Transcript("x" * 2_000_000)
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"(?s)cannot be saved.*File too large"):
            kept.save("rome", big, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(kept.folder) == ["rome.json"] and kept.load("rome") == ROME


def test_the_model_is_not_shown_what_was_blocked_or_never_said():
    exchanges = (
        Exchange("a", "b"),
        Exchange("c", "instead", blocked=True),
        Exchange("d", ""),
        Exchange("e", "f", finish_reason="length"),
    )
    shown = [Message("user", "a"), Message("assistant", "b"), Message("user", "e"), Message("assistant", "f")]
    assert list(Transcript("s", exchanges).messages()) == shown
