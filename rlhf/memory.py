"""How much memory a step takes at its peak, by arithmetic: pure functions from a network's shape to bytes by part.

    parts = update(network, how, rows=4, tokens=512, logits=4 * 256)
    sum(parts.values())

What is counted is what the code keeps: each tensor that the backward pass of a block needs, in the type in which it is
kept, and what is alive beside it for a moment. docs/memory.md explains the parts; `python -m benchmarks.memory_plan`
sets them beside what is measured. D is the trunk's width, I the inner width of a block, H heads, V vocabulary entries.

The blocks are GPT-Neo's with our kernels (`fused`). For other architectures the weights are exact and the activations
rough.
"""

from dataclasses import dataclass, replace
from typing import Self

from rlhf.config import Precision
from rlhf.decoding import LEAVE
from rlhf.fused import SHORT
from rlhf.logprobs import CHUNK_LOGITS

Parts = dict[str, float]
"""Name of a part → bytes at the peak."""

SFT_CHUNK = 256
"""Tokens whose logits TRL's `chunked_nll` loss has in memory at a time."""
QUERIES = ("q_proj", "k_proj", "v_proj")
OVERHEAD = {"cuda": 0.6 * 2**30, "cpu": 0.6 * 2**30}
"""What a process holds before any model: the CUDA context and its libraries (assumed), or Python with all libraries in
main memory (measured)."""
SLACK = {"cuda": 0.06, "cpu": 0.0}
"""Share of the rest that the allocator holds without using it (assumed)."""


@dataclass(frozen=True)
class Network:
    """The shape of a causal language model."""

    width: int
    inner: int
    layers: int
    heads: int
    vocabulary: int
    window: int
    """Reach of local attention; 0 where there is none."""
    local_layers: int
    linear: dict[str, tuple[int, int]]
    """Linear layers of a block: name → inputs, outputs."""
    other: int
    """Weights that are in no linear layer of a block: embeddings, norms, biases."""
    buffers: int
    """Bytes of what is no weight: GPT-Neo has a mask of all positions in every layer."""

    @property
    def weights(self) -> int:
        """All of them."""
        return self.layers * sum(k * n for k, n in self.linear.values()) + self.other

    def bytes(self, precision: Precision) -> float:
        """Of one copy in memory. In 8 bits each row has a scale (fp32), in 4 bits each 64 weights one of 8 bits, and
        each 256 of these one (fp32); what is no linear layer of a block stays in bf16."""
        linear = self.weights - self.other
        if precision in ("fp32", "bf16"):
            return self.weights * (4 if precision == "fp32" else 2) + self.buffers
        scales = self.layers * sum(4 * n for _, n in self.linear.values())
        quantised = linear + scales if precision == "8bit" else linear * (1 / 2 + 1 / 64 + 4 / (64 * 256))
        return quantised + 2 * self.other + self.buffers

    def adapter(self, rank: int, targets: tuple[str, ...]) -> int:
        """Weights of a LoRA adapter."""
        return self.layers * sum(rank * (k + n) for name, (k, n) in self.linear.items() if name in targets)


@dataclass(frozen=True)
class How:
    """In which types and by which kernels a network computes."""

    precision: Precision = "fp32"
    autocast: bool = False
    """bf16 autocast, as SFT and the reward model train unless precision is fp32."""
    lora: bool = True
    rank: int = 16
    targets: tuple[str, ...] = ()
    """Layers with an adapter."""
    dropout: float = 0.0
    """Of the adapters, while training."""
    checkpointing: bool = False
    device: str = "cpu"

    @property
    def half(self) -> bool:
        """Whether linear layers give bf16."""
        return self.autocast or self.precision != "fp32"

    @property
    def fused_lora(self) -> bool:
        """Whether an adapter is computed with its layer (`FusedLoraLinear`) and not by peft."""
        return self.lora and not self.half and not self.dropout

    @property
    def adapter_bytes(self) -> int:
        """A weight of what LoRA trains: fp32, but TRL's trainers cast adapters on quantised weights to bf16."""
        return 2 if self.autocast and self.precision in ("8bit", "4bit") else 4

    @property
    def norms_in_fp32(self) -> bool:
        """Under autocast a GPU computes norms in fp32, and quantised layers answer in the type that they are asked."""
        return self.device == "cuda" and self.autocast

    def without_gradient(self) -> Self:
        """The same network only read."""
        return replace(self, checkpointing=False, dropout=0.0)


# --- a block ----------------------------------------------------------------------------------------------------------


def kept_by_block(net: Network, how: How, tokens: int) -> float:
    """Bytes a token that one block keeps for its backward pass, in sequences of so many tokens."""
    linear = 2 if how.half else 4
    stream = _stream(how)
    wide = 4 if how.norms_in_fp32 and how.precision in ("8bit", "4bit") else linear
    total = 2.0 * stream * net.width  # what both norms read
    total += 3 * linear * net.width  # queries, keys, values
    total += wide * net.inner  # what the activation function reads
    return total + _attention(net, how, tokens) + _inputs(net, how, linear)


def _stream(how: How) -> int:
    """Bytes a number of the residual stream."""
    return 4 if how.precision == "fp32" or how.norms_in_fp32 else 2


def _step_by_step(how: How, tokens: int) -> bool:
    """Whether attention keeps its scores: on a CPU, for short sequences and in bf16."""
    return how.device == "cpu" and (tokens <= SHORT or how.half)


def _attention(net: Network, how: How, tokens: int) -> float:
    """Scores, and masks of local layers, averaged over the layers; the fused kernel keeps its result instead."""
    mask = _stream(how) * tokens * net.local_layers / net.layers if 0 < net.window < tokens else 0.0
    if not _step_by_step(how, tokens):
        linear = 2 if how.half else 4
        kept_anyway = not how.lora and not how.half  # by the layer behind it
        return mask + 4 * net.heads + (0 if kept_anyway else linear * net.width)
    if not how.half:
        return mask + 4 * net.heads * tokens
    if how.autocast:
        return mask + (6 if how.precision == "fp32" else 2) * net.heads * tokens
    return mask + 6 * net.heads * tokens + 4 * net.width  # queries and keys in fp32


def _inputs(net: Network, how: How, linear: int) -> float:
    """What linear layers keep of what they read: for a gradient of their weights, or their adapters'."""
    names = how.targets if how.lora else tuple(net.linear)
    read = {name: net.linear[name][0] for name in names if name in net.linear}
    if how.fused_lora or not (how.lora or (how.autocast and _stream(how) == 4)):
        shared = max((read[name] for name in QUERIES if name in read), default=0)  # one array for all three
        own = sum(k for name, k in read.items() if name not in QUERIES)
        return linear * (shared + own) + (4 * how.rank * len(read) if how.lora else 0)
    copies = 4 if how.lora and not how.autocast else 2  # adapters are fp32: each layer casts for itself
    dropped = (1 if how.device == "cuda" else how.adapter_bytes) if how.dropout and how.lora else 0
    return (copies + dropped) * sum(read.values()) + (copies * how.rank * len(read) if how.lora else 0)


def passing_through(net: Network, how: How, tokens: int) -> float:
    """Bytes a token alive at once while one block is computed and nothing is kept."""
    linear = 2 if how.half else 4
    slow_adapters = how.lora and how.half
    block = 13.5 * 4 if slow_adapters else 13 * linear  # in the feed-forward part, of D numbers where I is 4·D
    mlp = block * (net.width + net.inner) / 5
    if how.precision == "8bit":  # sums of 32 bits, scaled, before they are bf16; on a CPU in four arrays
        mlp = max(mlp, 10 * net.width + (16 if how.device == "cpu" else 8) * net.inner)
    scores = 7 * linear * net.width + (8 if linear == 4 else 10) * net.heads * tokens
    attention = scores if _step_by_step(how, tokens) else 0.0
    return max(mlp, attention) + _stream(how) * tokens  # the mask of all queries and keys


def _unpacked(net: Network, how: How) -> float:
    """Bytes of the largest quantised layer, back in full for its backward pass."""
    if how.precision not in ("8bit", "4bit"):
        return 0.0
    return (4.0 if how.norms_in_fp32 else 2.0) * max((k * n for k, n in net.linear.values()), default=0)


def _gradients_passing(net: Network, how: How) -> float:
    """Bytes a token alive in the backward pass beside what is kept: gradients on both sides of the activation."""
    return (7 if not how.lora else 5) * (2 if how.half and not how.lora else 4) * (net.width + net.inner) / 5


# --- steps ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """What stays in memory during a whole phase."""

    weights: float
    """Bytes of networks: the base, and where they are networks of their own, reference and reward model."""
    frozen_adapters: float = 0.0
    """Bytes of the adapters of reference and reward model."""
    trained: int = 0
    """Weights that are trained."""
    trained_bytes: int = 4
    """A weight's."""
    adapters: bool = True
    """Whether what is trained stands beside the weights, and not among them."""
    moments: int = 2
    """Numbers that the optimizer keeps a weight."""
    copies: float = 0.0
    """Bytes of copies of what is trained: the best policy so far."""

    def parts(self) -> Parts:
        """By part."""
        own = self.trained * self.trained_bytes
        return {
            "weights": self.weights,
            "adapters": self.frozen_adapters + (own if self.adapters else 0),
            "optimizer": self.moments * own,
            "best policy": self.copies,
        }

    @property
    def gradients(self) -> float:
        """Bytes of all gradients."""
        return self.trained * self.trained_bytes


@dataclass(frozen=True)
class Logits:
    """The vocabulary projection of a step: so many logits at a time, so many bytes a logit."""

    count: float = 0.0
    bytes_each: float = 0.0

    @classmethod
    def chunked(cls, net: Network, tokens: float, how: How) -> Self:
        """Ours (`logprobs`): two arrays in fp32, and a bf16 one where the head is bf16."""
        return cls(min(tokens * net.vocabulary, CHUNK_LOGITS), 8 + (2 if how.half else 0))

    @classmethod
    def of_sft(cls, net: Network, tokens: float) -> Self:
        """TRL's loss: logits, their log-softmax, its exponential and the gradient, in fp32."""
        return cls(min(tokens, SFT_CHUNK) * net.vocabulary, 16)

    @classmethod
    def whole(cls, net: Network, tokens: float, how: How) -> Self:
        """transformers' loss: logits of every token, their log-softmax and the gradient, in fp32; in bf16 before."""
        return cls(tokens * net.vocabulary, 16 if how.half else 12)

    @property
    def bytes(self) -> float:
        return self.count * self.bytes_each


def update(
    net: Network, how: How, held: Held, rows: int, tokens: int, logits: Logits, *, several: bool, head: bool
) -> Parts:
    """Forward and backward pass of a micro-batch.

    Args:
        net: its shape.
        how: types and kernels.
        held: what stays.
        rows: sequences.
        tokens: of each.
        logits: of the loss; none for a reward model.
        several: whether a step has several micro-batches: their gradients add up beside the activations.
        head: whether the vocabulary projection is trained: its gradient is the first one.
    """
    block = kept_by_block(net, how, tokens)
    kept = net.layers * (_stream(how) * net.width if how.checkpointing else block)
    cast = 2.0 * net.weights if how.autocast and how.precision == "fp32" else 0.0  # of weights, for the backward pass
    activations = rows * tokens * (kept + (_stream(how) + 4) * net.width) + cast
    passing = _gradients_passing(net, how)
    if how.checkpointing:  # one block after the other is computed again
        passing = max(passing + block, passing_through(net, how, tokens))
    embeddings = net.vocabulary * net.width * held.trained_bytes if head else 0.0
    backward = rows * tokens * passing + embeddings + _unpacked(net, how)
    end = max(logits.bytes + 2 * embeddings, backward)
    gradients = held.gradients if several else max(0.0, held.gradients - activations - end)
    return held.parts() | {
        "gradients": gradients,
        "activations": activations + backward,
        "logits": end - backward,
    }


def read(net: Network, how: How, held: Held, rows: int, tokens: int, logits: Logits) -> Parts:
    """A forward pass that keeps nothing: evaluation, scoring, log-probabilities."""
    how = how.without_gradient()
    hidden = rows * tokens * 2 * _stream(how) * net.width
    trunk = rows * tokens * passing_through(net, how, tokens)
    return held.parts() | {"activations": max(trunk, hidden), "logits": max(0.0, hidden + logits.bytes - trunk)}


def decode(net: Network, how: How, held: Held, rows: int, prompt: int, response: int) -> Parts:
    """Sampling: keys and values of every token, and the prompts' pass or one step's logits, whichever is more.

    A step has its log-probabilities and probabilities in fp32 and their sums in fp64, made from a copy.
    """
    a_token = 2 * net.width * (2 if how.half else 4)
    leaving = rows * (1 - 1 / LEAVE) * a_token * (prompt + response)  # one layer's cache, copied without the ended
    prompts = rows * prompt * passing_through(net, how.without_gradient(), prompt)
    logits = rows * net.vocabulary * 24
    cache = rows * (prompt + response) * net.layers * a_token
    passing = max(prompts, leaving)
    return held.parts() | {"cache": cache, "activations": passing, "logits": max(0.0, logits - passing)}


def total(parts: Parts, device: str) -> float:
    """Bytes at the peak, all told: with what the process and the allocator need for themselves."""
    return sum(parts.values()) * (1 + SLACK[device]) + OVERHEAD[device]
