"""Typed configuration: a YAML file, `--set section.key=value` on top, unknown keys refused.

The sections `base`, `sft`, `reward` and `ppo` hold a few keys of our own and otherwise pass through, under
the same names, to `transformers.TrainingArguments` and TRL's `SFTConfig`, `RewardConfig` and `PPOConfig`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlhf.assignments import assignment, read_yaml
from rlhf.chat.settings import ChatSection, GuardrailSection, ImproveSection, RoutingSection, ServeSection
from rlhf.errors import UserError, nearest
from rlhf.rewards.specs import RewardList, RewardSpec, check_names
from rlhf.section import Section

Precision = Literal["fp32", "bf16", "8bit", "4bit"]
AUTO = "auto"
FITTED = ("per_device_train_batch_size", "local_rollout_forward_batch_size")
"""Keys of the trainers for which `auto` leaves it to the plan what fits (`planning`)."""


class Shape(Section):
    """The shape of a GPT-Neo that is trained from scratch."""

    hidden_size: int = Field(gt=0)
    """Width of the residual stream; a multiple of num_heads."""
    num_layers: int = Field(gt=0)
    """Transformer blocks; global and local attention alternate."""
    num_heads: int = Field(gt=0)
    """Attention heads a block."""
    window_size: int = Field(default=256, gt=0)
    """Reach of the local attention layers, in tokens."""
    max_position_embeddings: int = Field(default=512, gt=0)
    """Longest sequence, prompt and reply together, in tokens."""


class ModelSection(Section):
    """Which network, in which precision, on which device. Exactly one of `name` and `shape`."""

    name: str | None = None
    """Hub name or local folder of a causal language model."""
    shape: Shape | None = None
    """A GPT-Neo to train from scratch instead (`--phase base`)."""
    tokenizer: str | None = None
    """Hub name or folder; "train" (byte-level BPE on data.text); "tiktoken:NAME" or a .tiktoken rank file.
    Default: the model's own, or "train" for a model from scratch."""
    vocab_size: int = Field(default=4096, ge=300)
    """Entries of a trained tokenizer, special tokens included."""
    precision: Precision = "fp32"
    """Weights while training: fp32, bf16, or the frozen base in 8 or 4 bits (needs LoRA)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """"cuda" is an error where there is no GPU; "auto" takes one where there is."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.name is None) == (self.shape is None):
            raise ValueError("set exactly one of model.name (pretrained) and model.shape (from scratch)")
        if self.shape and self.precision in ("8bit", "4bit"):
            raise ValueError("a model trained from scratch needs precision fp32 or bf16")
        return self


class LoraSection(Section):
    """LoRA (Hu et al. 2021, arXiv 2106.09685), and the phases that train an adapter instead of all weights."""

    phases: list[Literal["sft", "reward", "ppo"]] = ["sft", "reward", "ppo"]
    """Phases that train an adapter; the others train every weight."""
    r: int = Field(default=16, gt=0)
    """Rank."""
    alpha: int = Field(default=32, gt=0)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout on the adapter's input (SFT and reward only; PPO switches it off)."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an adapter, as in peft's LoraConfig."""


class SourceSpec(Section):
    """One data source. A bare file path in its place means {source: jsonl, path: …}, its format recognised."""

    source: str
    """A name in dataloader.SOURCES."""
    path: str | None = None
    """A local file; the hub is then never asked."""
    name: str | None = None
    """A data set on the hub."""
    split: str | None = None
    """The publisher's split, for a hub data set."""
    weight: float | None = Field(default=None, gt=0)
    """Relative share of this source in the mixture; without any weights every row of each source is used."""
    limit: int | None = Field(default=None, gt=0)
    """At most this many rows (by hash order, not file order)."""
    suite: str | None = None
    """Name under which an out-of-distribution source is reported; default: the source or file name."""


class DataSection(Section):
    """Where prompts, replies and judgements come from, and how they are cut."""

    demonstrations: list[SourceSpec] = Field(min_length=1)
    """Prompts with good replies: SFT learns from them, the report's references are theirs."""
    preferences: list[SourceSpec] = Field(min_length=1)
    """Pairs for the reward model; `made` builds them from the demonstrations."""
    prompts: list[SourceSpec] = []
    """Prompts for PPO and the report; default: those of the demonstrations."""
    ood: list[SourceSpec] = []
    """Out-of-distribution suites: held_out, long_context, paraphrase, typos, or any prompt file."""
    text: list[SourceSpec] = []
    """Plain text to pretrain a model from scratch on; default: the demonstrations' own text."""
    extra_preferences: list[SourceSpec] = []
    """Preference sets that are only tested on: the reward model's accuracy is reported on each."""
    held_out_categories: list[str] = []
    """Categories kept out of all training; they make the suite `held_out`."""
    validation_fraction: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of prompts kept for validation during training."""
    test_fraction: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of prompts kept for the report."""
    max_prompt_tokens: int = Field(default=256, gt=0)
    """Longer prompts lose their middle (counted and reported)."""
    max_response_tokens: int = Field(default=256, gt=0)
    """Longer replies are cut at the end (counted and reported); PPO's and the report's replies stop here."""

    @model_validator(mode="after")
    def _all_or_no_weights(self) -> Self:
        for key in self.source_lists():
            weighted = [spec.weight is not None for spec in getattr(self, key)]
            if any(weighted) and not all(weighted):
                raise ValueError(f"data.{key}: give every source a weight, or none")
        return self

    @classmethod
    def source_lists(cls) -> list[str]:
        """Names of the fields that are lists of sources."""
        return [name for name, field in cls.model_fields.items() if "SourceSpec" in str(field.annotation)]

    @model_validator(mode="before")
    @classmethod
    def _paths_are_sources(cls, values: Any) -> Any:
        """A bare string in a list of sources: a source's name, or a path to a JSONL file."""
        if not isinstance(values, dict):
            return values
        lists = cls.source_lists()
        return {key: _as_specs(value) if key in lists else value for key, value in values.items()}


def _as_specs(value: Any) -> Any:
    items = [value] if isinstance(value, str | dict) else value
    if not isinstance(items, list):
        return value
    return [_as_spec(item) if isinstance(item, str) else item for item in items]


def _as_spec(text: str) -> dict[str, str]:
    is_path = "/" in text or Path(text).suffix in (".jsonl", ".json", ".gz", ".txt", ".sqlite") or Path(text).is_file()
    if not is_path:
        return {"source": text}
    return {"source": "feedback" if Path(text).suffix == ".sqlite" else "jsonl", "path": text}


class TrainingSection(BaseModel):
    """A phase's settings: our own keys, and any key of the trainer's configuration class."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    @property
    def trainer_args(self) -> dict[str, Any]:
        """The keys that pass through to the trainer's configuration class; what is `auto` counts as 1 until fitted."""
        return dict(self.__pydantic_extra__ or {}) | dict.fromkeys(self.fitted, 1)

    @property
    def fitted(self) -> list[str]:
        """The keys of `FITTED` that are `auto`."""
        return [key for key in FITTED if (self.__pydantic_extra__ or {}).get(key) == AUTO]


class AutocastSection(TrainingSection):
    """What the phases that train with transformers' `Trainer` share."""

    bf16: bool | Literal["auto"] | None = None
    """Train with bf16 autocast. `auto`: where the GPU or the (x86) CPU multiplies in bf16. Default: unless
    model.precision is fp32."""


class BaseSection(AutocastSection):
    """Pretraining of a from-scratch model (`transformers.TrainingArguments`)."""

    block_tokens: int = Field(default=256, gt=0)
    """Length of a training block, in tokens."""


class SFTSection(AutocastSection):
    """Supervised fine-tuning (`trl.SFTConfig`)."""


class RewardSection(AutocastSection):
    """The pairwise reward model (`trl.RewardConfig`)."""

    margin: bool = False
    """Use the pairs' margins in the Bradley-Terry loss (Touvron et al. 2023, arXiv 2307.09288, eq. 2)."""
    init: Literal["sft", "base"] = "sft"
    """Which network the reward model starts from."""
    calibration_rows: int = Field(default=512, gt=1)
    """Held-out demonstrations on which the reward is normalised to mean 0 and standard deviation 1."""


class PPOSection(TrainingSection):
    """PPO (`trl.experimental.ppo.PPOConfig`)."""

    rewards: RewardList = Field(default=[RewardSpec(reward="model")], min_length=1)
    """What replies are rewarded for: the sum of these by their weights. Default: the learned reward model alone."""
    target_kl: float | None = Field(default=None, gt=0)
    """Adapt kl_coef to hold this KL to the reference, in nats a response (Ziegler et al. 2019, eq. in section 2.2)."""
    kl_horizon: int | None = Field(default=None, gt=0)
    """Episodes over which the adaptive KL coefficient reacts, at least one update's. Default: a tenth of the run's, so
    that the coefficient can move by a factor of about 7 over any run (Ziegler et al.: 10,000 of 1,000,000 episodes)."""
    reward_clip: float | None = Field(default=5.0, gt=0)
    """Clip the normalised reward to ±this."""
    sft_coef: float = Field(default=0.0, ge=0, lt=1)
    """α in (1-α)·L_ppo + α·L_sft: the supervised term mixed into each update."""
    value: Literal["auto", "shared", "detached", "adapter"] = "auto"
    """Where values come from: a linear head on the policy's trunk, whose loss trains the trunk, too (shared) or not
    (detached), or an adapter of its own that starts as the reward model, which must then be an adapter on the same
    base. auto: detached where the baseline leaves it little to learn, else shared."""
    baseline: bool = True
    """Where the learned reward model is among the rewards, a regression on its hidden states foresees returns, and the
    value head learns what is left; costs a pass of the reward model."""
    eval_prompts: int = Field(default=64, ge=0)
    """Held-out prompts on which the policy is scored every eval_steps updates; the best is kept. 0: off."""
    max_logprob_gap: float | None = Field(default=1.0, gt=0)
    """Tokens on whose log-probability sampling and training differ by more, in nats, are left out of the policy's loss;
    null leaves out none. fp32 differs by about 1e-5; bf16, 8 and 4 bits by up to some tenths."""
    stop_at_kl: float | None = Field(default=None, gt=0)
    """Stop once the responses of an update have a larger mean KL to the reference, in nats a response."""
    patience: int | None = Field(default=None, gt=0)
    """Stop after so many evaluations in a row without a better held-out objective; needs eval_prompts."""

    @model_validator(mode="after")
    def _patience_needs_evaluations(self) -> Self:
        if self.patience and not self.eval_prompts:
            raise ValueError("ppo.patience needs held-out prompts: set ppo.eval_prompts above 0")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        check_names(self.rewards)
        return self


class TestSection(Section):
    """The report."""

    prompts: int = Field(default=200, gt=1)
    """Prompts a suite, at most."""
    pairs: int = Field(default=1000, gt=1)
    """Held-out pairs on which the reward model is measured, at most (a set)."""
    batch_size: int = Field(default=32, gt=0)
    """Replies generated at a time."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature of all systems; 0 is greedy."""
    bootstrap: int = Field(default=2000, ge=100)
    """Resamples behind each 95% interval."""
    samples: int = Field(default=60, ge=0)
    """Side-by-side samples shown in the report."""


class PlanSection(Section):
    """What the plan of memory goes by."""

    memory_gb: float | None = Field(default=None, gt=0)
    """Memory to fit into, in GiB. Default: all of the GPU's, or what is free of main memory."""


class Config(Section):
    """Everything a run depends on. Saved beside each result as `config.yaml`."""

    seed: int = 0
    """Seed of every random generator."""
    model: ModelSection
    lora: LoraSection = LoraSection()
    data: DataSection
    base: BaseSection = BaseSection()
    sft: SFTSection = SFTSection()
    reward: RewardSection = RewardSection()
    ppo: PPOSection = PPOSection()
    test: TestSection = TestSection()
    plan: PlanSection = PlanSection()
    chat: ChatSection = ChatSection()
    serve: ServeSection = ServeSection()
    guardrails: GuardrailSection = GuardrailSection()
    routing: RoutingSection = RoutingSection()
    improve: ImproveSection = ImproveSection()
    report_to: str | list[str] = "none"
    """Trackers that the trainers log to: none, tensorboard, wandb, trackio."""

    @model_validator(mode="after")
    def _quantised_needs_lora(self) -> Self:
        without = [phase for phase in ("sft", "reward", "ppo") if phase not in self.lora.phases]
        if self.model.precision in ("8bit", "4bit") and without:
            raise ValueError(
                f"model.precision is {self.model.precision}, whose weights cannot be trained: add {', '.join(without)} "
                "to lora.phases, or set model.precision to bf16"
            )
        return self


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file and apply `section.key=value` overrides (values are YAML).

    Raises:
        UserError: file missing or not YAML, unknown key (with the nearest known one), or value of the wrong type.
    """
    path = Path(path)
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml")))
        raise UserError(f"No config file {path}.", remedy=f"give one of: {known}") from None
    except OSError as error:
        raise UserError(f"Cannot read the config file {path}.", found=str(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML.", found=" ".join(str(error).split())) from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings.", expected="a YAML mapping", found=type(values).__name__)
    for override in overrides:
        _apply_override(values, override)
    return parse_config(values, origin=f"{path} with --set {' '.join(overrides)}" if overrides else str(path))


def parse_config(values: dict[str, Any], origin: str = "config") -> Config:
    """Check plain values and make a `Config`. Raises `UserError` as `load_config` does."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{origin} is not a valid configuration.", found=_explain(error)) from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, value = assignment(override, "section.key=value", "ppo.kl_coef=0.1")
    *parents, leaf = key.split(".")
    node = values
    for name in parents:
        child = node.get(name)
        node[name] = child = dict(child) if isinstance(child, dict) else {}  # a copy: YAML's aliases are one object
        node = child
    node[leaf] = value


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key {where}; {nearest(str(item['loc'][-1]), _known_keys(item['loc'][:-1]))}")
        elif item["type"] == "value_error":  # one of our own, which says it all
            lines.append(item["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{where}: {item['msg']} (given: {item['input']!r:.80})")
    return "; ".join(lines)


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        if isinstance(part, int):
            continue
        annotation: Any = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def plain_values(config: Config) -> dict[str, Any]:
    """The resolved configuration as it may be written down: without the server's token."""
    return config.model_dump(mode="json", exclude={"serve": {"token"}})


def save_config(config: Config, folder: Path) -> None:
    """Write the resolved configuration as `folder/config.yaml`."""
    values = plain_values(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
