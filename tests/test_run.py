"""A run's folder: results are published whole or not at all, and belong to one configuration."""

import re
from dataclasses import replace

import pytest
import yaml

from rlhf.errors import UserError
from rlhf.run import Run, replace_folder
from tests.conftest import TEXTS, small_config
from tests.phases.helpers import ListData


@pytest.fixture
def run(tmp_path):
    return Run(small_config(), tmp_path / "run", ListData(), arguments="--config c.yaml --output run")


def writer(text):
    return lambda folder: (folder / "weights").write_text(text)


# --- publishing -------------------------------------------------------------------------------------------------------


def test_a_result_comes_with_its_configuration(run):
    folder = run.publish("sft", writer("new"))
    assert folder == run.folder / "sft" == run.result("sft")
    assert (folder / "weights").read_text() == "new"
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["shape"]["hidden_size"] == 32
    assert [path.name for path in run.folder.iterdir()] == ["sft"]


def test_a_newer_result_takes_the_place_of_the_older_whole(run):
    run.publish("sft", lambda folder: (folder / "only in the old").write_text(""))
    run.publish("sft", writer("new"))
    assert sorted(path.name for path in (run.folder / "sft").iterdir()) == ["config.yaml", "weights"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("bug")])
def test_a_write_that_fails_leaves_the_old_result_and_nothing_else(run, error):
    run.publish("sft", writer("old"))

    def fail(folder):
        (folder / "weights").write_text("half")
        raise error

    with pytest.raises(type(error)):
        run.publish("sft", fail)
    assert (run.folder / "sft" / "weights").read_text() == "old"
    assert [path.name for path in run.folder.iterdir()] == ["sft"]


def test_what_a_killed_write_left_is_no_result(run):
    partial = run.folder / ".sft.partial"
    partial.mkdir(parents=True)
    (partial / "half").write_text("")
    with pytest.raises(UserError):
        run.result("sft")
    run.publish("sft", writer("new"))
    assert not (run.folder / "sft" / "half").exists() and not partial.exists()


@pytest.mark.parametrize("stands", [False, True], ids=["between the renames", "after them"])
def test_a_kill_while_replacing_loses_no_result(run, stands):
    run.publish("sft", writer("new"))
    displaced = run.folder / ".sft.old"
    if stands:
        displaced.mkdir()
    else:
        (run.folder / "sft").rename(displaced)
    run.check_folder()
    assert (run.folder / "sft" / "weights").read_text() == "new"


def test_replace_folder_without_an_older_one(tmp_path):
    (tmp_path / "new").mkdir()
    replace_folder(tmp_path / "new", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


# --- what a phase asks for --------------------------------------------------------------------------------------------


def test_a_missing_result_names_the_command_that_makes_it(run):
    with pytest.raises(UserError, match=r"python main.py --phase reward --config c.yaml --output run"):
        run.result("reward")
    with pytest.raises(UserError, match=r"--phase all "):
        run.result("ppo_from_base")
    with pytest.raises(UserError, match=r"--phase base "):
        run.base_model()


def test_all_phases_still_to_be_run_are_named_in_order(run):
    def named(result: str) -> list[str]:
        with pytest.raises(UserError) as refused:
            run.result(result)
        return re.findall(r"--phase (\w+)", str(refused.value))

    assert named("reward") == ["base", "sft", "reward"]
    run.publish("base", writer("x"))
    assert named("reward") == ["sft", "reward"]
    run.publish("sft", writer("x"))
    assert named("reward") == ["reward"]
    pretrained = replace(run, config=small_config(model={"name": "owner/model"}), folder=run.folder / "other")
    with pytest.raises(UserError, match="run: python main.py --phase sft .*, then python main.py --phase reward "):
        pretrained.result("reward")


def test_base_model_is_the_name_or_the_runs_own(run):
    run.publish("base", writer("x"))
    assert run.base_model() == str(run.folder / "base")
    pretrained = replace(run, config=small_config(model={"name": "owner/model", "device": "cpu"}))
    assert pretrained.base_model() == "owner/model"


def test_a_trained_tokenizer_is_kept_with_the_base_model(run):
    first = run.tokenizer()
    run.publish("base", first.save_pretrained)
    changed = replace(run, data=ListData(texts=["ganz anderer Text"] * 3))
    assert changed.tokenizer().get_vocab() == first.get_vocab()
    assert changed.tokenizer().encode(TEXTS[0]) == first.encode(TEXTS[0])
    assert first.model_max_length == 40  # 32 prompt tokens and 8 of the reply


def test_texts_are_read_to_train_a_tokenizer_only(run, tokenizer, tmp_path):
    class NoTexts(ListData):
        def text(self):
            raise AssertionError("texts were read")

    tokenizer.save_pretrained(tmp_path / "given")
    model = run.config.model.model_copy(update={"tokenizer": str(tmp_path / "given")})
    given = replace(run, config=run.config.model_copy(update={"model": model}), data=NoTexts())
    assert given.tokenizer().get_vocab() == tokenizer.get_vocab()


# --- one folder, one configuration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("model", {"vocab_size": 400}, "model.vocab_size: 300 then, 400 now"),
        ("data", {"max_prompt_tokens": 9}, "data.max_prompt_tokens: 32 then, 9 now"),
        ("seed", 5, "seed: 0 then, 5 now"),
    ],
)
def test_results_of_another_configuration_are_refused(run, section, change, named):
    run.publish("sft", writer("x"))
    run.check_folder()
    before = getattr(run.config, section)
    now = before.model_copy(update=change) if isinstance(change, dict) else change
    changed = replace(run, config=run.config.model_copy(update={section: now}))
    with pytest.raises(UserError) as error:
        changed.check_folder()
    assert named in str(error.value) and str(run.folder / "sft") in str(error.value)


def test_training_settings_may_change_between_phases(run):
    run.publish("sft", writer("x"))
    replace(run, config=small_config(ppo={"kl_coef": 0.5}, reward={"margin": True})).check_folder()


def test_new_pairs_keep_sft_and_ask_for_a_new_reward_model(run):
    run.publish("sft", writer("x"))
    run.publish("reward", writer("x"))
    data = run.config.data.model_copy(update={"preferences": run.config.data.preferences * 2})
    later = replace(run, config=run.config.model_copy(update={"data": data}))
    later.check_folder()
    assert later.result("sft") == run.folder / "sft"
    with pytest.raises(UserError) as error:
        later.result("reward")
    assert "data.preferences" in str(error.value) and "--phase reward" in str(error.value)
    later.publish("reward", writer("y"))
    assert later.result("reward") == run.folder / "reward"


def test_a_result_is_up_to_date_while_what_it_depends_on_is_the_same(run):
    assert not run.is_up_to_date("sft")
    run.publish("sft", writer("x"))
    assert run.is_up_to_date("sft")
    later = small_config(ppo={"kl_coef": 0.5}, reward={"margin": True}, test={"samples": 1}, report_to="wandb")
    assert replace(run, config=later).is_up_to_date("sft")


def test_a_result_made_from_an_sft_of_other_settings_is_not_kept_once_that_is_made_anew(run):
    other = replace(run, config=small_config(sft={"learning_rate": 0.5}))
    other.publish("sft", writer("x"))
    run.publish("reward", writer("x"))
    run.publish("sft", writer("y"))
    assert run.is_up_to_date("sft")
    with pytest.raises(UserError, match=r"sft\.learning_rate: 0\.5 then"):
        run.is_up_to_date("reward")


@pytest.mark.parametrize("section", ["base", "lora", "sft"])
def test_a_result_whose_own_or_upstream_settings_changed_is_not_kept(run, section):
    run.publish("sft", writer("x"))
    changed = {"base": {"block_tokens": 8}, "lora": {"r": 2}, "sft": {"learning_rate": 0.5}}[section]
    before = run.config.model_dump(mode="json")[section]
    with pytest.raises(UserError) as error:
        replace(run, config=small_config(**{section: before | changed})).is_up_to_date("sft")
    assert f"{section}.{next(iter(changed))}: " in str(error.value)
