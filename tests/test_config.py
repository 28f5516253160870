"""The configuration: overrides, what is refused, the round trip, and every YAML file that comes with the project."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader import DataRoom
from rlhf.config import Config, DataSection, PPOSection, Section, SourceSpec, TrainingSection, load_config, save_config
from rlhf.errors import UserError
from rlhf.phases.ppo import ppo_arguments
from rlhf.run import Run
from tests.conftest import small_config

REPO = Path(__file__).parent.parent
FILES = sorted(REPO.glob("configs/*.yaml"))
GPT_NEO = [path for path in FILES if path.stem.startswith("gpt-neo")]
SOURCES = [REPO / "main.py", REPO / "dataloader.py", REPO / "reward_model.py", *sorted(REPO.glob("rlhf/**/*.py"))]
MINIMAL = "model: {name: some/model}\ndata: {demonstrations: [classroom], preferences: [made]}\n"


@pytest.fixture
def minimal(tmp_path) -> Path:
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    return path


def subclasses(kind: type) -> list[type]:
    return [found for child in kind.__subclasses__() for found in (child, *subclasses(child))]


SECTIONS = [
    kind
    for kind in (*subclasses(Section), TrainingSection, *subclasses(TrainingSection))
    if kind.__module__ in ("rlhf.config", "rlhf.rewards.specs", "rlhf.chat.settings")
]
FIELDS = [(kind, name) for kind in SECTIONS for name in kind.model_fields if name in kind.__annotations__]


# --- the files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_parses_and_its_trainers_take_its_keys(path, tmp_path):
    """Not only the names: the trainers' classes are built, which checks values and how they go together."""
    from transformers import TrainingArguments
    from trl import RewardConfig, SFTConfig
    from trl.experimental.ppo import PPOConfig

    from rlhf.run import Run
    from rlhf.training import trainer_arguments
    from tests.phases.helpers import ListData

    run = Run(load_config(path, ["model.device=cpu"]), tmp_path, ListData())
    run.check()
    classes = {"base": TrainingArguments, "sft": SFTConfig, "reward": RewardConfig, "ppo": PPOConfig}
    for section, kind in classes.items():
        args = trainer_arguments(kind, run, section, section)
        for key, value in getattr(run.config, section).trainer_args.items():
            assert getattr(args, key) == value, f"{section}.{key}"


@pytest.mark.parametrize("path", GPT_NEO, ids=lambda path: path.stem)
def test_gpt_neo_files_say_what_the_readme_says_of_them(path):
    config = load_config(path)
    assert config.model.name is not None and config.model.name.lower() == f"eleutherai/{path.stem}"
    assert config.model.precision == "8bit"
    assert set(config.lora.phases) == {"sft", "reward", "ppo"}
    assert [spec.name for spec in config.data.demonstrations] == ["databricks/databricks-dolly-15k"]
    assert config.data.max_prompt_tokens + config.data.max_response_tokens <= 2048
    for section in (config.sft, config.reward, config.ppo):
        assert section.trainer_args["gradient_accumulation_steps"] > 1
        assert section.trainer_args["gradient_checkpointing"] is True


def test_a_size_may_be_left_to_the_plan(minimal):
    section = load_config(minimal, ["ppo.per_device_train_batch_size=auto", "ppo.kl_coef=0.1"]).ppo
    assert section.fitted == ["per_device_train_batch_size"]
    assert section.trainer_args == {"per_device_train_batch_size": 1, "kl_coef": 0.1}


def test_all_three_sizes_are_there():
    assert [path.stem for path in GPT_NEO] == ["gpt-neo-1.3b", "gpt-neo-125m", "gpt-neo-2.7b"]


# --- the fields -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_every_field_is_described(kind, name):
    field = kind.model_fields[name]
    is_section = field.annotation in SECTIONS  # described by its own docstring
    assert field.annotation.__doc__ if is_section else field.description


def section_in(annotation: object) -> type | None:
    """The section that a field is, or that it is a list of."""
    return next((kind for kind in (annotation, *getattr(annotation, "__args__", ())) if kind in SECTIONS), None)


class Reads:
    """Which fields of which sections a file reads: attributes of what is a section by its annotation or origin."""

    def __init__(self, source: str) -> None:
        nodes = list(ast.walk(ast.parse(source)))
        self.kinds: dict[str, type] = {"config": Config}  # name of a variable or attribute → its section
        for node in nodes:
            self.note_annotation(node)
        for node in nodes:
            self.note_origin(node)
        self.found = {found for node in nodes for found in self.read_by(node)}

    def kind_of(self, node: ast.AST) -> type | None:
        """The section that an expression is."""
        if isinstance(node, ast.Attribute) and (kind := self.kind_of(node.value)) and node.attr in kind.model_fields:
            return section_in(kind.model_fields[node.attr].annotation)
        return self.kinds.get(getattr(node, "attr", getattr(node, "id", "")))

    def note_annotation(self, node: ast.AST) -> None:
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            words = re.findall(r"\w+", ast.unparse(node.annotation))
            self.kinds.update((name, kind) for kind in SECTIONS if kind.__name__ in words)

    def note_origin(self, node: ast.AST) -> None:
        """`a = config.data`, `a, b = config.data, other`, `for a in config.data.ood`."""
        pairs = []
        if isinstance(node, ast.For | ast.comprehension):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, ast.Assign):
            pairs = [(node.targets[0], node.value)]
            if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(node.targets[0].elts, node.value.elts, strict=False))  # values may be starred
        found = ((name.id, self.kind_of(value)) for name, value in pairs if isinstance(name, ast.Name))
        self.kinds.update((name, kind) for name, kind in found if kind)

    def read_by(self, node: ast.AST) -> Iterator[tuple[type, str]]:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if (kind := self.kind_of(node.value)) and node.attr in kind.model_fields:
                yield kind, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "trainer_arguments":
            yield from ((Config, part.value) for part in node.args if isinstance(part, ast.Constant))


def test_every_field_is_read():
    """As an attribute of its section, or (sections of the trainers) by the name handed to `trainer_arguments`."""
    found = set().union(
        *(Reads(path.read_text(encoding="utf-8")).found for path in SOURCES if path.name != "config.py")
    )

    def is_read(kind: type, name: str) -> bool:  # an inherited field: of the parent or the child
        return any(name == read and (issubclass(kind, by) or issubclass(by, kind)) for by, read in found)

    assert [f"{kind.__name__}.{name}" for kind, name in FIELDS if not is_read(kind, name)] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("run.config.data.max_prompt_tokens", {(Config, "data"), (DataSection, "max_prompt_tokens")}),
        ("def f(data: DataSection):\n    return data.test_fraction", {(DataSection, "test_fraction")}),
        ("class A:\n    s: PPOSection\n    def f(self):\n        self.s.kl_horizon", {(PPOSection, "kl_horizon")}),
        ("data = config.data\ndata.ood", {(Config, "data"), (DataSection, "ood")}),
        ("[s.limit for s in config.data.ood]", {(Config, "data"), (DataSection, "ood"), (SourceSpec, "limit")}),
        ("def f(data: Rows, network):\n    return data.ood, network.name", set()),  # have such fields, are no sections
        ("config.seed = 3", set()),
    ],
)
def test_what_counts_as_reading_a_field(source, found):
    assert Reads(source).found == found


# --- reading --------------------------------------------------------------------------------------------------


def test_overrides_are_yaml_and_reach_any_depth(minimal):
    config = load_config(
        minimal,
        ["seed=3", "ppo.kl_coef=1e-2", "model.name=null", "model.shape.hidden_size=8", "model.shape.num_layers=1"]
        + ["model.shape.num_heads=2", "lora.target_modules=[q_proj]", "sft.lr_scheduler_type=cosine"],
    )
    assert config.seed == 3
    assert config.ppo.trainer_args == {"kl_coef": 0.01}
    assert config.model.name is None and config.model.shape is not None and config.model.shape.hidden_size == 8
    assert config.lora.target_modules == ["q_proj"]
    assert config.sft.trainer_args == {"lr_scheduler_type": "cosine"}


def test_a_later_override_wins_and_may_hold_equals_signs(minimal):
    config = load_config(minimal, ["seed=1", "seed=2", "model.name=a=b"])
    assert (config.seed, config.model.name) == (2, "a=b")


def test_an_override_reaches_one_section_of_those_that_share_an_anchor(tmp_path):
    path = tmp_path / "anchors.yaml"
    path.write_text(MINIMAL + "sft: &steps {max_steps: 5}\nreward: *steps\n")
    config = load_config(path, ["sft.max_steps=7"])
    assert (config.sft.trainer_args, config.reward.trainer_args) == ({"max_steps": 7}, {"max_steps": 5})


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("seed", ["--set", "section.key=value"]),
        ("=3", ["--set", "section.key=value"]),
        ("data.demonstrations=[a", ["--set", "YAML"]),
        ("sed=3", ["unknown key sed", "did you mean seed?"]),
        ("data.max_promt_tokens=3", ["unknown key data.max_promt_tokens", "did you mean max_prompt_tokens?"]),
        ("model.shape.hidden=3", ["unknown key model.shape.hidden", "hidden_size"]),
        ("data.ood=[{source: jsonl, pth: x}]", ["unknown key data.ood.0.pth", "did you mean path?"]),
        ("model.precision=int8", ["model.precision", "8bit", "'int8'"]),
        ("data.test_fraction=0.7", ["data.test_fraction", "less than 0.5"]),
        ("test.prompts=many", ["test.prompts", "integer", "'many'"]),
        ("lora=5", ["lora", "5"]),
    ],
)
def test_bad_overrides_are_refused_with_what_is_right(minimal, override, parts):
    with pytest.raises(UserError) as refused:
        load_config(minimal, [override])
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ({"model": {}}, "exactly one of model.name (pretrained) and model.shape (from scratch)"),
        ({"model": {"name": "x", "shape": {"hidden_size": 8, "num_layers": 1, "num_heads": 1}}}, "exactly one"),
        (
            {"model": {"shape": {"hidden_size": 8, "num_layers": 1, "num_heads": 1}, "precision": "8bit"}},
            "fp32 or bf16",
        ),
        (
            {"data": {"demonstrations": [{"source": "a", "weight": 1}, "b"], "preferences": ["made"]}},
            "data.demonstrations: give every source a weight, or none",
        ),
        ({"data": {"demonstrations": [], "preferences": ["made"]}}, "data.demonstrations"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_our_words(sections, part):
    with pytest.raises(UserError) as refused:
        small_config(**sections)
    assert part in str(refused.value) and "Value error" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "part"), [(b"a: [", "not valid YAML"), (b"\xff", "not valid YAML"), (b"", "a YAML mapping")]
)
def test_a_file_that_is_no_configuration_is_refused_by_name(tmp_path, content, part):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        load_config(path)
    assert str(path) in str(refused.value) and part in str(refused.value)


def test_a_missing_file_is_answered_with_those_that_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(REPO)
    with pytest.raises(UserError, match="configs/tiny.yaml"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="Cannot read"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("given", "source", "path"),
    [
        ("dolly", "dolly", None),
        ("rows.jsonl", "jsonl", "rows.jsonl"),
        ("rows.jsonl.gz", "jsonl", "rows.jsonl.gz"),
        ("folder/rows", "jsonl", "folder/rows"),
        ({"source": "hh_rlhf", "path": "p.gz"}, "hh_rlhf", "p.gz"),
    ],
)
def test_a_bare_path_stands_for_a_source(given, source, path):
    for written in (given, [given]):  # one source needs no list
        config = small_config(data={"demonstrations": written, "preferences": ["made"]})
        assert [(spec.source, spec.path) for spec in config.data.demonstrations] == [(source, path)]


@given(text=st.from_regex(r"[1-9][0-9]{0,2}e-?[0-9]{1,2}", fullmatch=True))
def test_numbers_in_exponent_notation_are_numbers(text):
    config = load_config(REPO / "configs" / "tiny.yaml", [f"sft.learning_rate={text}"])
    assert config.sft.trainer_args["learning_rate"] == float(text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_saved_is_read_back_equal(path, tmp_path):
    config = load_config(path, ["reward.learning_rate=1e-5", "report_to=[tensorboard, wandb]", "data.ood=[typos, a/b]"])
    save_config(config, tmp_path)
    assert load_config(tmp_path / "config.yaml") == config


def test_the_token_is_not_written_down(tmp_path):
    config = load_config(FILES[0], ["serve.token=not-to-be-told", "serve.port=8123"])
    save_config(config, tmp_path)
    assert "not-to-be-told" not in (tmp_path / "config.yaml").read_text()
    again = load_config(tmp_path / "config.yaml")
    assert (again.serve.token, again.serve.port) == (None, 8123)


# --- what passes through to the trainers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("sft.learning_rte=1", ["Unknown key sft.learning_rte", "SFTConfig", "did you mean learning_rate?"]),
        ("ppo.kl_coeff=1", ["Unknown key ppo.kl_coeff", "PPOConfig", "did you mean kl_coef?"]),
        ("ppo.target_k=1", ["Unknown key ppo.target_k", "did you mean target_kl?"]),  # one of ours
        ("base.max_step=1", ["Unknown key base.max_step", "TrainingArguments", "did you mean max_steps?"]),
        ("reward.max_steps=many", ["Bad value for reward.max_steps", "integer", "'many'"]),
        ("ppo.kl_estimator=k2", ["Bad value for ppo.kl_estimator", "'k1' or 'k3'", "'k2'"]),
    ],
)
def test_trainer_keys_are_checked_for_all_phases(minimal, override, parts):
    from rlhf.trainer_keys import check_trainer_sections

    with pytest.raises(UserError) as refused:
        check_trainer_sections(load_config(minimal, [override]))
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (["ppo.num_mini_batches=3"], "A PPO batch of 8 "),  # TRL's own batch size
        (["ppo.per_device_train_batch_size=4", "ppo.gradient_accumulation_steps=3", "ppo.num_mini_batches=8"], "of 12"),
        (["ppo.num_mini_batches=0"], "into 0 equal"),
        (["ppo.num_mini_batches='3'"], "into 3 equal"),
        (["ppo.gradient_accumulation_steps=0"], "of 0 "),
        (["ppo.per_device_train_batch_size=4", "ppo.gradient_accumulation_steps=2", "ppo.num_mini_batches=8"], ""),
        (["ppo.total_episodes=0"], "no update"),
        (["ppo.total_episodes=-5"], "no update"),
    ],
)
def test_a_ppo_run_of_no_updates_or_of_unequal_minibatches_is_refused(minimal, overrides, refused):
    from rlhf.trainer_keys import check_trainer_sections

    config = load_config(minimal, overrides)
    if refused:
        with pytest.raises(UserError, match=refused):
            check_trainer_sections(config)
    else:
        check_trainer_sections(config)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_ppo_run_leaves_several_checkpoints_to_resume_from(path, tmp_path):
    config = load_config(path)
    args = ppo_arguments(Run(config, tmp_path, DataRoom(config)), "ppo")
    rows = args.gradient_accumulation_steps  # with "auto", the whole batch
    if "per_device_train_batch_size" in config.ppo.trainer_args:
        rows *= args.per_device_train_batch_size
    assert args.save_strategy == "steps" and args.total_episodes // rows >= 3 * args.save_steps
