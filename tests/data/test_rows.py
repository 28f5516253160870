"""Reading files: what comes out, and the message for each way in which a file can be bad."""

import gzip
import json

import pytest

from rlhf.config import SourceSpec
from rlhf.data.rows import label, read_rows
from rlhf.errors import UserError
from tests.data.helpers import write

GOOD = b'{"prompt": "2+2?", "completion": "4"}\n'


def read(path):
    return list(read_rows(SourceSpec(source="jsonl", path=str(path))))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_plain_and_gzipped_files_give_the_same_rows(tmp_path, name):
    write(tmp_path / name, [{"prompt": "é"}, {"prompt": "b"}])
    rows = read(tmp_path / name)
    assert [row.values for row in rows] == [{"prompt": "é"}, {"prompt": "b"}]
    assert rows[1].where == f"{tmp_path / name}, line 2"


def test_blank_lines_are_skipped_and_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n" + GOOD + b"  \n" + GOOD)
    assert [row.where.rpartition(" ")[2] for row in read(path)] == ["2", "4"]


def test_a_last_line_without_line_end_is_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + GOOD.strip())
    assert len(read(path)) == 2


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", "", "is empty"),
        (b"\n \n", "", "is empty"),
        (GOOD + b'{"prompt": "2+2?", "compl', "line 2", "not JSON"),
        (GOOD + b"[1, 2]\n", "line 2", "not a JSON object"),
        (GOOD + '{"prompt": "caf\u00e9"}\n'.encode("latin1"), "line 2", "not UTF-8"),
        (gzip.compress(GOOD * 2000, mtime=0)[:-60], "line ", "damaged"),
        (gzip.compress(GOOD * 50, mtime=0)[:40] + b"\xff" * 40, "line 1", "damaged"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_line(tmp_path, content, line, words):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(path) in str(error.value) and line in str(error.value) and words in str(error.value)
    assert "expected" in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="No data file"):
        read(tmp_path / "none.jsonl")


def test_a_source_without_a_place_asks_for_a_path():
    with pytest.raises(UserError, match="give it a path"):
        list(read_rows(SourceSpec(source="jsonl")))


def test_an_unreachable_hub_is_reported_with_the_way_out(monkeypatch):
    monkeypatch.setattr("rlhf.hub._ask_hub", lambda name, kind, timeout: ConnectionError("refused"))
    with pytest.raises(UserError, match="path"):
        list(read_rows(SourceSpec(source="dolly", name="owner/never-downloaded")))


def test_a_folder_is_read_by_the_datasets_library(tmp_path):
    write(tmp_path / "train.jsonl", [{"prompt": "a", "completion": "b"}])
    rows = list(read_rows(SourceSpec(source="jsonl", name=str(tmp_path))))
    assert [dict(row.values) for row in rows] == [{"prompt": "a", "completion": "b"}]
    with pytest.raises(UserError, match="split 'nope'"):
        list(read_rows(SourceSpec(source="jsonl", name=str(tmp_path), split="nope")))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"path": "/a/b.test.jsonl.gz"}, "b.test"),
        ({"path": "x.jsonl", "suite": "mine"}, "mine"),
        ({"name": "owner/data"}, "owner/data"),
        ({}, "dolly"),
    ],
)
def test_label(values, expected):
    assert label(SourceSpec(source="dolly", **values)) == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [({}, "no 'prompt'"), ({"prompt": 3}, "expected: a string"), ({"prompt": "  "}, "is empty")],
)
def test_a_missing_wrong_or_empty_field_is_refused(tmp_path, values, words):
    write(tmp_path / "rows.jsonl", [values])
    with pytest.raises(UserError, match="line 1") as error:
        read(tmp_path / "rows.jsonl")[0].text("prompt")
    assert words in str(error.value)


def test_json_has_no_surprises(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"prompt": "with a byte order mark"}).encode())
    assert read(path)[0].text("prompt") == "with a byte order mark"
