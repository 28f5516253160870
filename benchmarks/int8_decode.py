"""Ways to sample from a model in 8 bits: speed, memory, and how far each is from the exact product of the same weights.

    python -m benchmarks.int8_decode --hidden 768 --layers 12 --batch 8 --prompt 32 --response 32 --json FILE

A random GPT-Neo is quantised once. Replies never end early, so that the work is equal. Errors are differences between a
way's own log-probabilities of the tokens it sampled and those of an fp32 model with the dequantised weights; the gap is
that between sampling and the forward pass that training makes with the same layers.
"""

import argparse
import copy
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

import rlhf.int8
from benchmarks.machine import described, timed
from benchmarks.ppo_sides import make_models
from benchmarks.processes import write_json
from rlhf.decoding import Decoded, Sampling, decode
from rlhf.fused import fuse_kernels
from rlhf.logprobs import masked_logprobs
from rlhf.models import load_base

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GENERATE = "LLM.int8, transformers' generate"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, text in (
        ("hidden", 768, "width of the model"), ("layers", 12, "its layers"), ("heads", 12, "its attention heads"),
        ("vocab", 50257, "vocabulary"), ("window", 256, "of local attention"), ("batch", 8, "replies at a time"),
        ("prompt", 32, "tokens of a prompt"), ("response", 32, "tokens of a reply"), ("rounds", 3, "timed, each way"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})")
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


# --- the ways ---------------------------------------------------------------------------------------------------------


def ways(model: Any) -> dict[str, Callable[[], Any]]:
    """Name → the model that samples this way; each made only when its turn comes."""
    found: dict[str, Callable[[], Any]] = {
        GENERATE: lambda: copy.deepcopy(model),
        "LLM.int8": lambda: fused(model, bnb.nn.Linear8bitLt),
        "weight-only (ours)": lambda: fused(model, rlhf.int8.WeightOnlyInt8),
        "weight-only, copied each time": lambda: fused(model, CopiedInt8),
    }
    if rlhf.int8.has_packed_kernel(DEVICE.type.upper()):
        found["weight-only, packed kernel"] = lambda: fused(model, PackedInt8)
    return found | {
        "dequantised to bf16": lambda: dequantised(model, torch.bfloat16),
        "dequantised to fp32": lambda: dequantised(model, torch.float32),
    }


class CopiedInt8(rlhf.int8.WeightOnlyInt8):
    """Weight-only on a copy of the weights in the activations' type, made for each product."""

    def forward(self, x: Tensor) -> Tensor:
        weight, scale = statistics_of(self)
        return F.linear(x, weight.to(x.dtype)).mul(scale).to(x.dtype).add_(self.bias if self.bias is not None else 0)


class PackedInt8(rlhf.int8.WeightOnlyInt8):
    """Weight-only by PyTorch's kernel for few rows, however many there are."""

    def forward(self, x: Tensor) -> Tensor:
        weight, scale = statistics_of(self)
        ones = torch.ones(len(weight), dtype=x.dtype, device=x.device)
        y = torch._weight_int8pack_mm(x.flatten(0, -2), weight, ones).unflatten(0, x.shape[:-1])
        return y.mul(scale).to(x.dtype).add_(self.bias if self.bias is not None else 0)


def statistics_of(layer: Any) -> tuple[Tensor, Tensor]:
    """int8 weights (N, K) and fp32 scales (N,) of an 8-bit layer."""
    if getattr(layer.weight, "CB", None) is not None:
        layer.init_8bit_state()
    return layer.state.CB, layer.state.SCB / 127


def fused(model: Any, kind: type) -> Any:
    """A copy with our kernels, its 8-bit layers of one kind."""
    model = copy.deepcopy(model)
    fuse_kernels(model)
    for layer in model.modules():
        if isinstance(layer, bnb.nn.Linear8bitLt):
            layer.__class__ = kind
    return model


def dequantised(model: Any, dtype: torch.dtype) -> Any:
    """A copy whose 8-bit layers are plain ones with the same weights."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, bnb.nn.Linear8bitLt):
                weight, scale = statistics_of(layer)
                plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device=DEVICE)
                plain.weight = nn.Parameter((weight.float() * scale[:, None]).to(dtype))
                plain.bias = layer.bias
                setattr(parent, name, plain)
    model.is_loaded_in_8bit = False  # transformers lets no such model change its type
    model.is_quantized = False
    model = nn.Module.to(model, dtype)
    fuse_kernels(model)
    return model.eval()


# --- measuring --------------------------------------------------------------------------------------------------------


def main() -> None:
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        make_models(args, Path(folder))
        tokenizer = PreTrainedTokenizerFast.from_pretrained(Path(folder) / "policy")
        model = load_base(str(Path(folder) / "policy"), tokenizer, "8bit", DEVICE).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(4)  # a fresh model finds all tokens alike
    prompts = torch.randint(args.vocab - 2, (args.batch, args.prompt), generator=torch.Generator().manual_seed(0))
    exact, pad = dequantised(model, torch.float32), tokenizer.pad_token_id
    results = {}
    for name, make in ways(model).items():
        results[name] = measure(name, make(), exact, prompts.to(DEVICE), pad, args)
        print(row(name, results[name]), flush=True)
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        machine = described() | {"bitsandbytes": bnb.__version__}
        write_json({"ways": results, "settings": settings, "machine": machine}, args.json)


def measure(name: str, model: Any, exact: Any, prompts: Tensor, pad: int, args: argparse.Namespace) -> dict[str, Any]:
    """Median tokens a second, weights and peak in MB, errors and gap in nats."""
    attention = torch.ones_like(prompts)
    luck = torch.rand(args.batch, args.response, generator=torch.Generator().manual_seed(1))
    sampling = Sampling(args.response, (), pad)

    def sample() -> Decoded | None:
        if name != GENERATE:
            return decode(model, prompts, attention, sampling, luck)
        model.generate(input_ids=prompts, attention_mask=attention, do_sample=True, top_k=0, pad_token_id=pad,
                       max_new_tokens=args.response, min_new_tokens=args.response)  # fmt: skip
        return None

    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    decoded = sample()
    found: dict[str, Any] = {
        "tokens_per_s": args.batch * args.response / statistics.median(timed(sample, args.rounds)),
        "weights_mb": sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20,
    }
    if DEVICE.type == "cuda":
        found["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return found | (differences(model, exact, prompts, decoded, pad) if decoded else {})


def differences(model: Any, exact: Any, prompts: Tensor, decoded: Decoded, pad: int) -> dict[str, float]:
    """|Δ log p| of the sampled tokens: to the exact product, and to the same layers' forward pass in training."""
    sequences = torch.cat([prompts, decoded.tokens], dim=1)
    given = sequences, torch.ones_like(sequences), decoded.mask, 1.0, pad
    with torch.no_grad():
        error = (decoded.logprobs - masked_logprobs(exact, *given).logprobs).abs()
        gap = (decoded.logprobs - masked_logprobs(model.train(), *given).logprobs).abs()
    return {"error_max": error.max().item(), "error_mean": error.mean().item(), "gap_max": gap.max().item()}


def row(name: str, found: dict[str, Any]) -> str:
    text = f"{name:34} {found['tokens_per_s']:9.1f} tokens/s {found['weights_mb']:8.0f} MB"
    if "error_max" in found:
        text += f"   |Δ log p| mean {found['error_mean']:.1e} max {found['error_max']:.1e}   gap {found['gap_max']:.1e}"
    return text


if __name__ == "__main__":
    main()
