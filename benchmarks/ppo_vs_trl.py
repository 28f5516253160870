"""PPO here and by TRL's stock trainer, side by side: speed and memory on the same random weights and prompts.

    python -m benchmarks.ppo_vs_trl --hidden 768 --layers 12 --vocab 50257 --batch 8 --prompt 64 --response 64 \
        --updates 2 --json FILE

Each side runs in fresh processes, in turns, so that neither gains by what the other left or by a quiet hour. Replies
never end early, so that the work is equal. The first update warms up and is not counted.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ENGINES = ("ours", "trl")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, text in (
        ("hidden", 768, "width of the model"), ("layers", 12, "its layers"), ("heads", 12, "its attention heads"),
        ("vocab", 50257, "vocabulary"), ("batch", 8, "episodes an update"), ("prompt", 64, "tokens of a prompt"),
        ("response", 64, "tokens of a reply"), ("updates", 2, "counted updates"), ("epochs", 4, "PPO epochs"),
        ("minibatches", 1, "optimizer steps an epoch"), ("rank", 8, "of the LoRA adapters"),
        ("rounds", 1, "processes a side"), ("window", 256, "of local attention"),
        ("micro_batch", 4, "sequences at a time in our update"), ("trl_micro_batch", 0, "the same in TRL's; 0: all"),
        ("rollout_batch", 0, "sequences sampled at a time; 0: all"),
    ):  # fmt: skip
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"{text} ({default})")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32", help="of the base weights, both sides")
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.engine:
        print(json.dumps(run_ours(args) if args.engine == "ours" else run_trl(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_models(args, Path(folder))
        runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
        for number in range(args.rounds):
            for engine in ENGINES:
                print(f"round {number + 1}/{args.rounds}: {engine}", file=sys.stderr, flush=True)
                runs[engine].append(in_fresh_process(engine, folder))
                print(f"  {runs[engine][-1]}", file=sys.stderr, flush=True)
    result = compare({engine: middle(found) for engine, found in runs.items()}, args)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def in_fresh_process(engine: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.ppo_vs_trl", *sys.argv[1:], "--engine", engine, "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TRL_EXPERIMENTAL_SILENCE": "1"})
    if done.returncode:
        sys.exit(f"{engine} failed:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of median speed."""
    return sorted(runs, key=lambda run: float(run["episodes_per_s"]))[(len(runs) - 1) // 2]


def compare(found: dict[str, dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """The result, with ratios and what they were measured on."""
    import platform

    import torch
    import transformers
    import trl

    peak = "peak_gpu_mb" if "peak_gpu_mb" in found["ours"] else "peak_rss_mb"
    return {
        **found,
        "speedup": found["ours"]["episodes_per_s"] / found["trl"]["episodes_per_s"],
        "memory_ratio": found["ours"][peak] / found["trl"][peak],
        "settings": {name: value for name, value in vars(args).items() if name not in ("json", "engine", "folder")},
        "machine": {
            "cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
        },
    }  # fmt: skip


# --- the same weights, tokenizer and prompts for both -----------------------------------------------------------------


def make_models(args: argparse.Namespace, folder: Path) -> None:
    """A random GPT-Neo as `folder/policy`, a reward model as `folder/reward`, both with a tokenizer of bare numbers."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import GPTNeoForSequenceClassification, PreTrainedTokenizerFast

    from rlhf.config import Shape
    from rlhf.models import from_scratch

    words = {f"w{number}": number for number in range(args.vocab - 2)} | {
        "<pad>": args.vocab - 2,
        "<end>": args.vocab - 1,
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), pad_token="<pad>", eos_token="<end>",
        padding_side="left", model_max_length=args.prompt + args.response,
    )  # fmt: skip
    torch.manual_seed(0)
    policy = from_scratch(
        Shape(
            hidden_size=args.hidden, num_layers=args.layers, num_heads=args.heads, window_size=args.window,
            max_position_embeddings=max(2048 if args.hidden >= 512 else 256, args.prompt + args.response),
        ),
        tokenizer,
    )  # fmt: skip
    policy.config.num_labels = 1
    reward = GPTNeoForSequenceClassification(policy.config)
    for model, name in ((policy, "policy"), (reward, "reward")):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def prompt_rows(args: argparse.Namespace) -> Any:
    import torch
    from datasets import Dataset

    ids = torch.randint(args.vocab - 2, (4 * args.batch, args.prompt), generator=torch.Generator().manual_seed(0))
    return Dataset.from_list([{"input_ids": row} for row in ids.tolist()])


def trainer_settings(args: argparse.Namespace, micro_batch: int) -> dict[str, Any]:
    import torch

    return {
        "output_dir": str(args.folder / "out"), "use_cpu": not torch.cuda.is_available(), "report_to": "none",
        "bf16": False, "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": args.batch // micro_batch, "num_mini_batches": args.minibatches,
        "num_ppo_epochs": args.epochs, "total_episodes": args.batch * (args.updates + 1),
        "response_length": args.response, "stop_token": None, "temperature": 1.0, "learning_rate": 1e-4,
        "local_rollout_forward_batch_size": args.rollout_batch or args.batch, "gradient_checkpointing": False,
        "num_sample_generations": 0, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1,
    }  # fmt: skip


def measured(args: argparse.Namespace, ends: list[float], phases: dict[str, float]) -> dict[str, Any]:
    import torch

    seconds = [after - before for before, after in zip(ends, ends[1:], strict=False)]
    found: dict[str, Any] = {
        "episodes_per_s": args.batch / statistics.mean(seconds),
        "seconds_per_update": statistics.mean(seconds),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "phases": phases,
    }
    if torch.cuda.is_available():
        found["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return found


# --- the two sides ----------------------------------------------------------------------------------------------------


def run_ours(args: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import AutoTokenizer
    from trl.experimental.ppo import PPOConfig

    from reward_model import RewardModel
    from rlhf.backbone import Backbone, SharedRewardModel
    from rlhf.config import PPOSection, parse_config
    from rlhf.ppo_trainer import RLHFTrainer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = parse_config(
        {
            "model": {"name": str(args.folder / "policy"), "precision": args.dtype},
            "lora": {"phases": ["sft", "reward", "ppo"], "r": args.rank, "alpha": 2 * args.rank, "dropout": 0.0,
                     "target_modules": ["q_proj", "v_proj"]},
            "data": {"demonstrations": ["classroom"], "preferences": ["classroom"]},
        }
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(args.folder / "policy")
    backbone = Backbone(args.folder / "policy", config, tokenizer, device)
    rewards = RewardModel(
        SharedRewardModel(backbone, reward_adapter(args, backbone, config, tokenizer)), tokenizer.pad_token_id
    )
    size = args.rollout_batch or args.batch
    trainer = RLHFTrainer(
        PPOConfig(**trainer_settings(args, min(args.micro_batch, args.batch // args.minibatches))),
        PPOSection(eval_prompts=0), tokenizer, backbone,
        lambda prompts, replies: rewards.score_ids([p + r for p, r in zip(prompts, replies, strict=True)], size),
        prompt_rows(args), exact_decoding=args.dtype == "fp32",
    )  # fmt: skip
    ends: list[float] = []
    phases: dict[str, float] = {"rollout": 0.0, "score": 0.0, "update": 0.0}
    log_step = trainer._log_step

    def note(*given: Any) -> None:
        log_step(*given)
        ends.append(time.perf_counter())
        if len(ends) > 1:
            for part in phases:
                phases[part] += trainer.stopwatch.seconds[part] / args.updates

    trainer._log_step = note  # type: ignore[method-assign]
    trainer.train()
    return measured(args, ends, phases)


def reward_adapter(args: argparse.Namespace, backbone: Any, config: Any, tokenizer: Any) -> Any:
    """A reward model as the pipeline makes it: an adapter of the same rank and a head, on the same base."""
    from rlhf.models import trainable_model

    made = trainable_model(str(args.folder / "policy"), config, "reward", tokenizer, backbone.device)
    made.save_pretrained(args.folder / "reward_adapter", save_embedding_layers=False)
    del made
    return backbone.add_reward_adapter(args.folder / "reward_adapter")


def run_trl(args: argparse.Namespace) -> dict[str, Any]:
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    dtype = torch.float32 if args.dtype == "fp32" else torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(args.folder / "policy")
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(args.folder / "reward", num_labels=1, dtype=dtype)
        for _ in range(2)
    )
    ends: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *given: Any, **named: Any) -> None:
            ends.append(time.perf_counter())

    policy = AutoModelForCausalLM.from_pretrained(args.folder / "policy", dtype=dtype)
    trainer = PPOTrainer(
        PPOConfig(**trainer_settings(args, args.trl_micro_batch or args.batch)), tokenizer, policy, None, reward,
        prompt_rows(args), value,
        eval_dataset=prompt_rows(args), callbacks=[Watch()],
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0,
                               target_modules=["q_proj", "v_proj"]),
    )  # fmt: skip
    trainer.train()
    return measured(args, ends, {})


if __name__ == "__main__":
    main()
