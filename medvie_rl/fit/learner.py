"""Memory of one learner rank.

Model states follow the ZeRO paper (arXiv 1910.02054, section 3.1 and figure 1: 2 + 2 + 12 bytes for each parameter with
16-bit weights and Adam) with what DeepSpeed holds besides; activations follow arXiv 2205.05198 (section 4.1), counted
anew for this decoder (grouped queries, RMS norms in float32, a gated MLP, fused attention, no dropout).
"""

import math
from dataclasses import dataclass
from typing import Any

from learner.config import LearnerConfig
from medvie_rl.fit.items import BYTES, GIB, Item, Workload, count, total
from medvie_rl.fit.shape import PolicyShape

CONTEXT = 1.2 * GIB  # assumed: the CUDA context, NCCL, cuBLAS workspaces
SLACK = 0.08  # assumed: of activations and temporaries, what PyTorch's allocator cannot use
LOGITS_PER_CHUNK = 2**26  # learner.model.MAX_LOGITS_PER_CHUNK
_BUCKET = 5e8  # elements: DeepSpeed's default zero_optimization.reduce_bucket_size
_MAX_LIVE = 1e9  # parameters: DeepSpeed's default stage3_max_live_parameters
_SUB_GROUP = 1e9  # parameters: DeepSpeed's default sub_group_size


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerMemory:
    """Bytes on the device of one rank, and in the CPU memory of one rank."""

    states: list[Item]  # there from the first step on
    gradients: list[Item]  # during the backward pass
    working: list[Item]  # activations and what else forward and backward passes take
    stepping: list[Item]  # during the optimizer step, in place of `working`
    host: list[Item]

    @property
    def learning(self) -> list[Item]:
        """At the fullest moment of an update."""
        return [*self.states, *self.gradients, *max(self.working, self.stepping, key=total)]


def learner_memory(
    learner: LearnerConfig,
    shape: PolicyShape,
    work: Workload,
    *,
    needs_reference: bool,
    num_traces: int,
    on_gpu: bool,
) -> LearnerMemory:
    """The estimate for one of `learner.num_ranks` ranks; `work` says how a row divides into prompt and responses."""
    return LearnerMemory(
        states=_states(learner, shape, needs_reference=needs_reference),
        gradients=_gradients(learner, shape, on_gpu=on_gpu),
        working=_working(learner, shape, work, num_traces),
        stepping=_stepping(learner, shape),
        host=_host(learner, shape, on_gpu=on_gpu),
    )


def _states(learner: LearnerConfig, shape: PolicyShape, *, needs_reference: bool) -> list[Item]:
    ranks, size = learner.num_ranks, BYTES[learner.dtype]
    adapters = shape.trained_parameters(learner) if learner.lora.rank else 0
    held, trained = shape.num_parameters + adapters, shape.trained_parameters(learner)
    sharded = ranks if learner.zero_stage == 3 else 1
    items = []
    if not learner.offload_parameters:
        how = f"{size} bytes × {count(held)} parameters{_over(sharded)}"
        items.append(Item(name="weights", num_bytes=size * held / sharded, why=how))
    if not learner.offload_optimizer:
        how = f"12 bytes × {count(trained)} trained parameters{_over(ranks)}"
        items.append(Item(name="float32 weights, Adam's moments", num_bytes=12 * trained / ranks, why=how))
    if needs_reference and not learner.lora.rank and not learner.offload_parameters:
        of_reference = shape.num_parameters - (0 if learner.trains_vision else shape.vision_parameters)
        how = f"{size} bytes × {count(of_reference)} parameters{_over(ranks)}"
        items.append(Item(name="reference", num_bytes=size * of_reference / ranks, why=how))
    if learner.feature_cache_device == "policy" and not learner.trains_vision:
        cache = learner.feature_cache_mib * 2**20
        items.append(Item(name="image features", num_bytes=cache, why="learner.feature_cache_mib"))
    return items


def _gradients(learner: LearnerConfig, shape: PolicyShape, *, on_gpu: bool) -> list[Item]:
    ranks, size = learner.num_ranks, BYTES[learner.dtype]
    trained = shape.trained_parameters(learner)
    elements = zero_setting(learner, "reduce_bucket_size", _BUCKET)
    bucket = size * (elements if on_gpu else min(elements, trained))  # a CPU gives memory when it is first written to
    items = [Item(name="reduce bucket", num_bytes=bucket, why="zero_optimization.reduce_bucket_size (DeepSpeed)")]
    if not learner.offload_optimizer:
        sharded = ranks if learner.zero_stage > 1 else 1
        how = f"{size} bytes × {count(trained)} trained parameters{_over(sharded)}"
        items.append(Item(name="gradients", num_bytes=size * trained / sharded, why=how))
    return items


def _working(learner: LearnerConfig, shape: PolicyShape, work: Workload, num_traces: int) -> list[Item]:
    size, tokens = BYTES[learner.dtype], learner.max_tokens_per_micro_batch
    row = work.prompt_tokens + num_traces * work.response_tokens
    items = _activations(learner, shape, tokens, math.ceil(tokens * num_traces * work.response_tokens / row))
    if learner.trains_vision:
        patches = tokens * work.image_tokens / row * shape.vision.merge**2
        items.append(_vision_activations(learner, shape, patches))
    if learner.zero_stage == 3:
        live = min(shape.num_parameters, zero_setting(learner, "stage3_max_live_parameters", _MAX_LIVE))
        how = f"{size} bytes × {count(live)} gathered parameters (stage3_max_live_parameters)"
        items.append(Item(name="gathered weights", num_bytes=size * live, why=how))
    slack = SLACK * total(items)
    return [*items, Item(name="allocator's slack", num_bytes=slack, why=f"assumed: {SLACK:.0%} of activations")]


def layer_activations(shape: PolicyShape, size: int) -> int:
    """Bytes that a decoder layer keeps for the backward pass for each token, `size` bytes an element.

    Each norm, those of heads included, keeps its input in float32, its output before and after the weight; attention q,
    k, v, its output twice (as the kernel's and as o_proj's input) and a float32 sum per head; the gated MLP gate, its
    activation, up, and the product.
    """
    normed = 2 * shape.hidden + (shape.query + shape.key_value if shape.head_norms else 0)
    norms = (4 + 2 * size) * normed
    attention = size * (3 * shape.query + 2 * shape.key_value) + 4 * shape.heads
    return norms + attention + size * 4 * shape.intermediate


def _activations(learner: LearnerConfig, shape: PolicyShape, tokens: int, responses: int) -> list[Item]:
    """For so many tokens, some of them of responses: what is kept from the forward pass, and the larger of what comes
    and goes beside it: the logits of a chunk, or
    the gradients inside of a layer with, under gradient checkpointing, its activations computed again."""
    size = BYTES[learner.dtype]
    layer = layer_activations(shape, size)
    kept = shape.layers * (size * shape.hidden if learner.gradient_checkpointing else layer)
    kept += (4 + 4 * size) * shape.hidden  # embeddings, last norm
    passing = size * 3 * shape.intermediate + 8 * shape.hidden + (layer if learner.gradient_checkpointing else 0)
    what = "inputs of" if learner.gradient_checkpointing else "no gradient checkpointing,"
    how = f"{tokens:,} tokens × {kept / 1024:,.0f} KiB: {what} {shape.layers} layers"
    chunk = min(responses, max(1, LOGITS_PER_CHUNK // shape.vocabulary))
    # Processed logits, logprobs, probabilities and their product for the entropy, in float32: measured.
    logits = Item(
        name="logits of a chunk",
        num_bytes=16 * chunk * shape.vocabulary,
        why=f"16 bytes × {chunk:,} tokens × {shape.vocabulary:,} words",
    )
    of_layer = Item(
        name="one layer's backward pass",
        num_bytes=tokens * passing,
        why=f"{tokens:,} tokens × {passing / 1024:,.0f} KiB",
    )
    largest = max(logits, of_layer, key=lambda item: item.num_bytes)
    return [Item(name="activations", num_bytes=tokens * kept, why=how), largest]


def _vision_activations(learner: LearnerConfig, shape: PolicyShape, patches: float) -> Item:
    size, vision = BYTES[learner.dtype], shape.vision
    block = 2 * (4 + 2 * size) * vision.hidden + size * 5 * vision.hidden + size * 4 * vision.intermediate
    kept = vision.depth * size * vision.hidden + block if learner.gradient_checkpointing else vision.depth * block
    how = f"{patches:,.0f} patches × {kept / 1024:,.0f} KiB: the vision tower trains"
    return Item(name="activations of the vision tower", num_bytes=patches * kept, why=how)


def _stepping(learner: LearnerConfig, shape: PolicyShape) -> list[Item]:
    if learner.offload_optimizer:
        return []
    of_rank = shape.trained_parameters(learner) / learner.num_ranks
    if learner.zero_stage == 3:
        of_rank = min(of_rank, zero_setting(learner, "sub_group_size", _SUB_GROUP))
    how = f"4 bytes × {count(of_rank)} parameters"
    return [Item(name="float32 gradients", num_bytes=4 * of_rank, why=how)]


def _host(learner: LearnerConfig, shape: PolicyShape, *, on_gpu: bool) -> list[Item]:
    """In CPU memory beside what is on the device."""
    size, ranks = BYTES[learner.dtype], learner.num_ranks
    held, trained = shape.num_parameters, shape.trained_parameters(learner)
    items = [
        Item(name="pixels", num_bytes=learner.pixel_cache_mib * 2**20, why="learner.pixel_cache_mib"),
    ]
    if on_gpu:
        why = "each rank loads all of it at the start"
        items.append(Item(name="the policy while it is loaded", num_bytes=size * held, why=why))
    if learner.feature_cache_device == "cpu" and not learner.trains_vision:
        cache = learner.feature_cache_mib * 2**20
        items.append(Item(name="image features", num_bytes=cache, why="learner.feature_cache_mib"))
    if learner.offload_optimizer:
        how = f"16 bytes × {count(trained)} trained parameters{_over(ranks)}"
        items.append(Item(name="optimizer and gradients", num_bytes=16 * trained / ranks, why=how))
    if learner.offload_while_sampling:
        how = f"{size} bytes × {count(held)} parameters, 12 × {count(trained)} trained{_over(ranks)}"
        states = size * held + 12 * trained / ranks
        items.append(Item(name="weights and optimizer while engines sample", num_bytes=states, why=how))
    if learner.offload_parameters:
        how = f"{size} bytes × {count(held)} parameters{_over(ranks)}"
        items.append(Item(name="weights", num_bytes=size * held / ranks, why=how))
    return items


def zero_setting(learner: LearnerConfig, name: str, default: float) -> float:
    """A number of the DeepSpeed dictionary's zero_optimization, where learner.deepspeed names it."""
    overrides: Any = learner.deepspeed.get("zero_optimization") or {}
    return float(overrides.get(name, default))


def _over(ranks: int) -> str:
    return f" over {ranks} ranks" if ranks > 1 else ""
