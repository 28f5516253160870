"""PPO on one GPU: peak memory and episodes a second of GPT-Neo's three sizes on cards of several sizes.

    python -m benchmarks.gpu_memory --json gpu.json --markdown docs/results/gpu_memory.md
    python -m benchmarks.gpu_memory --tiny            the same on a CPU, in a minute: it shows that the script works

Weights are random at the true shape. A smaller card is the GPU at hand with its memory capped. Each row is a fresh
process that runs the phase `ppo` as it is, from an SFT and a reward adapter, sizes chosen by the plan for that card;
the first update warms up and is not counted. Beside it: TRL's stock trainer (bf16 with LoRA on two layers, which is the
lighter load; the largest micro-batch that runs), and our decoding beside `generate`.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu_report import GIB, GOALS, Row, markdown
from benchmarks.processes import in_fresh_process, say, write_json
from benchmarks.random_world import GPT_NEO, VOCABULARY, FullRows, make_base
from rlhf.config import Shape, parse_config

CARDS = (8.0, 12.0, 16.0, 24.0)
SHAPES = GPT_NEO | {"tiny": Shape(hidden_size=32, num_layers=2, num_heads=2, max_position_embeddings=64)}
PARTS = ("rollout", "score", "update")
TINY = {"models": ["tiny"], "cards": [8.0], "prompt": 16, "response": 4, "batch": 4, "updates": 1, "vocabulary": 300}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(SHAPES), default=list(GPT_NEO))
    parser.add_argument("--cards", nargs="+", type=float, default=list(CARDS), help="GiB (8 12 16 24)")
    parser.add_argument("--precisions", nargs="+", choices=("bf16", "8bit", "4bit"), default=["8bit", "4bit"])
    for name, default, text in (
        ("prompt", 256, "tokens of a prompt"), ("response", 256, "tokens of a response"),
        ("batch", 16, "episodes an update"), ("updates", 2, "counted updates"),
        ("vocabulary", VOCABULARY, "entries of the vocabulary"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})")
    parser.add_argument("--no-stock", action="store_true", help="without TRL's stock trainer")
    parser.add_argument("--no-decode", action="store_true", help="without decoding beside `generate`")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on a CPU, nothing capped")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    args = parser.parse_args(argv)
    vars(args).update(TINY if args.tiny else {})
    return args


def main() -> None:
    args = parse()
    if args.tiny:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    rows = [row for model in args.models for row in measure_model(model, args)]
    from benchmarks.machine import described

    result = {"rows": rows, "machine": described(), "settings": {k: getattr(args, k) for k in TINY}}
    text = markdown(result)
    print(text)
    if args.json:
        write_json(result, args.json)
    if args.markdown:
        args.markdown.write_text(text, encoding="utf-8")


def measure_model(model: str, args: argparse.Namespace) -> list[Row]:
    """All rows of a model: ours, stock and decoding."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        job = {k: getattr(args, k) for k in ("prompt", "response", "batch", "updates", "vocabulary")}
        job |= {"model": model, "folder": folder}
        measure(job | {"role": "make"})
        cards = sorted({*args.cards, *([GOALS[model]] if model in GOALS else [])})
        for precision in args.precisions:
            rows += [row(job | {"role": "ours", "precision": precision, "card": card}) for card in cards]
            if not args.no_decode:
                rows.append(row(job | {"role": "decode", "precision": precision, "card": max(cards)}))
        if not args.no_stock:
            rows += [largest_stock(job | {"role": "stock", "precision": "bf16", "card": card}) for card in cards]
    return rows


def largest_stock(job: Row) -> Row:
    """The stock trainer with the largest micro-batch that runs."""
    micro, found = job["batch"], {}
    while micro and not found.get("fits"):
        found = row(job | {"micro_batch": micro})
        micro //= 2
    return found


def row(job: Row) -> Row:
    """What is found for a job, with its name."""
    about = {key: job[key] for key in ("model", "role", "precision", "card")}
    say(" ".join(map(str, about.values())))
    found = measure(job)
    say(f"  {found}")
    return about | found


def measure(job: Row) -> Row:
    """What a role finds in a fresh process; where memory runs out, that."""
    found = Path(job["folder"]) / "found.json"
    try:
        return in_fresh_process(f"benchmarks.gpu_memory:{job['role']}", {"job": job}, found)
    except SystemExit:  # the log says more than the last error, in which transformers hides what stopped its loading
        lines = found.with_suffix(".log").read_text(encoding="utf-8").splitlines()
        why = [line for line in lines if "OutOfMemory" in line or "does not fit into memory" in line]
        if not why:
            raise
        return {"fits": False, "why": why[-1]}


# --- in a process of its own ------------------------------------------------------------------------------------------


def make(job: Row) -> Row:
    """The base in bf16, and an SFT and a reward adapter on it, as the phases leave them."""
    import torch
    from transformers import AutoTokenizer

    from reward_model import Normalisation
    from rlhf.models import trainable_model
    from rlhf.training import save_model

    folder = Path(job["folder"])
    make_base(folder / "base", SHAPES[job["model"]], job["vocabulary"], "bfloat16")
    run = run_of(job | {"precision": "bf16", "card": 1024.0})
    for phase in ("sft", "reward"):
        made = trainable_model(str(folder / "base"), run.config, phase, run.tokenizer(), torch.device("cpu"))
        save_model(made, run.tokenizer(), run.folder / phase)
        del made
    Normalisation().save(run.folder / "reward")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    tokenizer.pad_token = "<0>"  # the stock trainer wants one that is in the vocabulary, and not the end
    tokenizer.save_pretrained(folder / "padded")
    return {}


def run_of(job: Row) -> Any:
    """A run whose micro-batches the plan chooses for a card."""
    from rlhf.run import Run

    folder = Path(job["folder"])
    config = parse_config(
        {
            "model": {"name": str(folder / "base"), "precision": job["precision"]},
            "data": {"demonstrations": ["classroom"], "preferences": ["classroom"], "max_prompt_tokens": job["prompt"],
                     "max_response_tokens": job["response"]},
            "plan": {"memory_gb": job["card"]},
            "ppo": {
                "per_device_train_batch_size": "auto", "gradient_accumulation_steps": job["batch"],
                "local_rollout_forward_batch_size": "auto", "num_mini_batches": 1, "num_ppo_epochs": 4,
                "total_episodes": job["batch"] * (job["updates"] + 1), "gradient_checkpointing": True,
                "eval_prompts": 0, "num_sample_generations": 0, "save_strategy": "no", "disable_tqdm": True,
            },
        }
    )  # fmt: skip
    return Run(config, folder / "out", FullRows(config, rows=job["batch"]))


def cap(job: Row) -> None:
    """Let this process have no more of the GPU than such a card has. Raises `ValueError` on a smaller one."""
    import torch

    if not torch.cuda.is_available():
        return
    there = torch.cuda.get_device_properties(0).total_memory
    if job["card"] * GIB > there:
        raise ValueError(f"this GPU has {there / GIB:.1f} GiB: leave out --cards {job['card']:g}")
    torch.cuda.set_per_process_memory_fraction(job["card"] * GIB / there)


def peaks() -> Row:
    """GiB: on a GPU allocated and reserved at most, else resident."""
    import torch

    from benchmarks.memory import peak_mb

    reserved = {"reserved_gib": torch.cuda.max_memory_reserved() / GIB} if torch.cuda.is_available() else {}
    return {"peak_gib": peak_mb() / 1024} | reserved


def ours(job: Row) -> Row:
    """The phase `ppo`, but for merging its result."""
    from rlhf.phases import ppo
    from rlhf.planning import plan_phase
    from rlhf.training import METRICS_FILE, read_metrics

    cap(job)
    trainers: list[Any] = []

    class Noted(ppo.RLHFTrainer):  # type: ignore[misc]
        def train(self, *args: Any) -> None:
            trainers.append(self)
            super().train(*args)

    ppo.RLHFTrainer = Noted  # type: ignore[misc]
    run = run_of(job)
    ppo.train_policy(run, run.result("reward"), str(run.result("sft")), "ppo")
    updates = [entry for entry in read_metrics(run.folder / "ppo" / METRICS_FILE) if "eps" in entry][1:]
    trainer = trainers[0]
    return {
        "fits": True,
        "predicted_gib": plan_phase(run, "ppo", trainer.args).peak / GIB,
        "micro_batch": trainer.updater.rows.limit or trainer.args.per_device_train_batch_size,
        "rollout_batch": trainer.sampler.rows.limit or trainer.args.local_rollout_forward_batch_size,
        "episodes_per_s": job["batch"] / statistics.mean(job["batch"] / entry["eps"] for entry in updates),
        "seconds": {part: statistics.mean(entry[f"time/{part}"] for entry in updates) for part in PARTS},
        **peaks(),
    }  # fmt: skip


def stock(job: Row) -> Row:
    """TRL's PPOTrainer on the same weights and batch."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig

    from benchmarks.ppo_sides import TARGETS, Clock
    from benchmarks.stock import stock_trainer

    cap(job)
    folder, micro = Path(job["folder"]), job["micro_batch"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "padded")
    named = {"pad_token_id": tokenizer.pad_token_id, "dtype": torch.bfloat16}
    policy = AutoModelForCausalLM.from_pretrained(folder / "base", **named)
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(folder / "base", num_labels=1, **named) for _ in range(2)
    )
    ids = torch.randint(257, job["vocabulary"] - 1, (2 * job["batch"], job["prompt"])).tolist()
    prompts = Dataset.from_list([{"input_ids": row} for row in ids])
    settings = PPOConfig(
        output_dir=str(folder / "stock"), use_cpu=not torch.cuda.is_available(), report_to="none", bf16=False,
        per_device_train_batch_size=micro, gradient_accumulation_steps=job["batch"] // micro, num_mini_batches=1,
        num_ppo_epochs=4, total_episodes=job["batch"] * (job["updates"] + 1), response_length=job["response"],
        local_rollout_forward_batch_size=micro, num_sample_generations=0, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=TARGETS)
    clock = Clock()
    stock_trainer(settings, tokenizer, policy, reward, value, prompts, lora, [clock]).train()
    episodes_per_s = job["batch"] / clock.seconds_per_update()
    return {"fits": True, "micro_batch": micro, "episodes_per_s": episodes_per_s, **peaks()}


def decode(job: Row) -> Row:
    """Tokens a second of our decoding and of `generate`, both sampling, on the SFT model."""
    import torch
    from peft import PeftModel

    from benchmarks.machine import fastest
    from rlhf import decoding
    from rlhf.fused import fuse_kernels
    from rlhf.models import load_base

    run = run_of(job)
    tokenizer, rows, length = run.tokenizer(), job["batch"], job["response"]
    base = load_base(str(Path(job["folder"]) / "base"), tokenizer, job["precision"], run.device)
    model: Any = PeftModel.from_pretrained(base, str(run.folder / "sft")).eval()
    ids = torch.randint(257, job["vocabulary"] - 1, (rows, job["prompt"]), device=run.device)
    mask = torch.ones_like(ids)
    plain = {"do_sample": True, "top_k": 0, "max_new_tokens": length, "min_new_tokens": length}
    slow = fastest(
        lambda: model.generate(input_ids=ids, attention_mask=mask, pad_token_id=tokenizer.pad_token_id, **plain), 1
    )
    fuse_kernels(model)
    sampling = decoding.Sampling(length, (), tokenizer.pad_token_id)
    fast = fastest(lambda: decoding.decode(model, ids, mask, sampling, torch.rand(rows, length)), 1)
    return {"fits": True, "ours": rows * length / fast, "generate": rows * length / slow, **peaks()}


if __name__ == "__main__":
    main()
