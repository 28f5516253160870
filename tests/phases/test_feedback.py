"""The phase feedback: what it refuses before it makes anything."""

import pytest

from rlhf.chat.feedback import FILE
from rlhf.errors import UserError
from rlhf.phases.feedback import run_phase
from rlhf.run import Given, Run
from tests.conftest import small_config
from tests.phases.helpers import ListData


def run(folder, *words: str) -> Run:
    return Run(small_config(), folder, ListData(), given=Given(words))


def test_a_file_that_is_not_there_makes_no_store(tmp_path):
    with pytest.raises(UserError, match=r"no file .*none.jsonl to import"):
        run_phase(run(tmp_path / "typo", "import", str(tmp_path / "none.jsonl")))
    assert not (tmp_path / "typo").exists()


def test_an_import_says_where_it_makes_a_store(tmp_path, capsys):
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}\n')
    counts = run_phase(run(tmp_path / "new", "import", str(tmp_path / "pairs.jsonl")))
    assert counts["duels"] == 1 and f"{tmp_path / 'new' / FILE} is new" in capsys.readouterr().out
    run_phase(run(tmp_path / "new", "import", str(tmp_path / "pairs.jsonl")))
    assert "is new" not in capsys.readouterr().out
