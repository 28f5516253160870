"""Which settings a result depends on, and how a change of them is told."""

import pytest

from rlhf.provenance import SHARED, dependencies, differences, in_words
from tests.conftest import small_config


@pytest.mark.parametrize(
    ("result", "sections"),
    [
        ("base", {"base"}),
        ("sft", {"base", "lora", "sft"}),
        ("rlhf_reward_model", {"base", "lora", "sft", "reward", "data.preferences"}),
        ("ppo_from_base", {"base", "lora", "sft", "reward", "ppo", "data.preferences", "data.prompts"}),
    ],
)
def test_a_result_depends_on_its_section_and_those_upstream(result, sections):
    assert set(dependencies(result)) == sections | set(SHARED)


def test_a_difference_has_both_values(config):
    changed = small_config(seed=3, ppo={"kl_coef": 9.0, "eval_prompts": 64})
    found = differences(config, changed, dependencies("ppo"))
    assert found == {"seed": (0, 3), "ppo.kl_coef": (None, 9.0)}
    assert in_words(found) == "seed: 0 then, 3 now; ppo.kl_coef: not set then, 9.0 now"
    assert differences(changed, config, ["ppo"]) == {"ppo.kl_coef": (9.0, None)}


def test_a_change_of_sources_is_told_by_what_is_set_and_cut_between_words():
    one, many = [{"source": "classroom", "path": None, "limit": 3}], [{"path": f"file {i}"} for i in range(40)]
    told = in_words({"data.preferences": (one, many)})
    then, _, now = told.partition(" then, ")
    assert then == "data.preferences: [{limit: 3, source: classroom}]"
    assert now.startswith("[{path: file 0}, {path: file 1}") and now.endswith("}, … now") and len(now) < 220


def test_only_the_sections_asked_for_are_compared(config):
    changed = small_config(ppo={"kl_coef": 9.0}, reward={"margin": True}, test={"samples": 3}, report_to="wandb")
    assert differences(config, changed, dependencies("sft")) == {}
    assert list(differences(config, changed, dependencies("reward"))) == ["reward.margin"]


def test_where_it_runs_and_what_is_only_tested_are_no_difference(config):
    model = config.model.model_copy(update={"device": "auto"})
    data = config.data.model_copy(update={"ood": config.data.demonstrations, "extra_preferences": []})
    changed = config.model_copy(update={"model": model, "data": data})
    assert differences(config, changed, SHARED) == {}


def test_new_judgements_concern_the_reward_model_and_what_comes_after(config):
    data = config.data.model_copy(update={"preferences": config.data.preferences * 2})
    changed = config.model_copy(update={"data": data})
    assert differences(config, changed, SHARED) == differences(config, changed, dependencies("sft")) == {}
    assert list(differences(config, changed, dependencies("reward"))) == ["data.preferences"]
    assert list(differences(config, changed, dependencies("rlhf_gpt_neo_model"))) == ["data.preferences"]


def test_other_prompts_concern_ppo_alone(config):
    data = config.data.model_copy(update={"prompts": config.data.demonstrations})
    changed = config.model_copy(update={"data": data})
    assert differences(config, changed, dependencies("reward")) == {}
    assert list(differences(config, changed, dependencies("ppo"))) == ["data.prompts"]
