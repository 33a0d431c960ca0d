"""A policy of each family with a few thousand random weights; groups of responses, packed and one response per row."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from learner.attention import SHARED_PROMPT
from learner.layout import Branch, Layout
from learner.model import PolicyModule
from learner.packing import ImagePixels, PackedRows, pack_rows
from learner.types import TrainingGroup, TrainingResponse

IMAGE, START, END, BANNED = 3, 4, 5, (3, 6)
TEMPERATURE = 0.7
VOCABULARY = 60
GRIDS = {"a": (1, 4, 6), "b": (1, 2, 8), "c": (1, 4, 4)}

TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 256,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VISION = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2,
    "out_hidden_size": 32,
}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 1000.0}
PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of the text and the vision config, by family
    "qwen2_5_vl": (
        {"num_hidden_layers": 2, "rope_parameters": ROPE},
        {"window_size": 16, "fullatt_block_indexes": [1]},
    ),
    "qwen3_vl": (
        {"num_hidden_layers": 3, "rope_parameters": ROPE | {"mrope_interleaved": True}},
        {"num_position_embeddings": 9, "deepstack_visual_indexes": [0, 1]},
    ),
}

Policy = PreTrainedModel


def make_policy(seed: int = 0, family: str = "qwen2_5_vl", head_dim: int = 8) -> Policy:
    torch.manual_seed(seed)
    text, vision = PARTS[family]
    heads, section = 32 // head_dim, [head_dim // 8, head_dim // 8, head_dim // 4]
    text = text | {"head_dim": head_dim, "num_attention_heads": heads, "num_key_value_heads": heads // 2}
    text["rope_parameters"] = text["rope_parameters"] | {"mrope_section": section}
    config = AutoConfig.for_model(
        family,
        text_config=TEXT | text,
        vision_config=VISION | vision,
        image_token_id=IMAGE,
        video_token_id=6,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=True,
    )
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa")
    for parameter in model.parameters():  # far from uniform, so that a wrong position or mask shows
        parameter.data.normal_(0, 0.2) if parameter.ndim > 1 else parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.train()


def make_images() -> dict[str, ImagePixels]:
    generator = torch.Generator().manual_seed(1)
    return {
        key: ImagePixels(patches=torch.randn(t * h * w, 3 * 2 * 4 * 4, generator=generator), grid=(t, h, w))
        for key, (t, h, w) in GRIDS.items()
    }


def make_group(name: str, keys: tuple[str, ...], lengths: tuple[int, ...], seed: int) -> TrainingGroup:
    """Every third response from the second on begins with half of the first, every third from the third with all."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(7, VOCABULARY, (count,), generator=generator).tolist())

    prompt = tokens(3)
    for key in keys:
        t, h, w = GRIDS[key]
        prompt += (START, *([IMAGE] * (t * h * w // 4)), END, *tokens(2))
    first = tokens(lengths[0]) if lengths else ()

    def response_tokens(trace: int, length: int) -> tuple[int, ...]:
        alike = first[: min(length, len(first)) * (trace % 3) // 2] if trace else first
        return alike + tokens(length - len(alike))

    responses = tuple(
        TrainingResponse(
            token_ids=response_tokens(trace, length),
            sampler_logprobs=tuple((-4 + 0.5 * torch.randn(length, generator=generator)).tolist()),
            advantage=float(torch.randn(1, generator=generator)),
            trace=trace,
        )
        for trace, length in enumerate(lengths)
    )
    return TrainingGroup(query_id=name, prompt_ids=prompt, image_keys=keys, responses=responses)


def pack(policy: Policy, images: dict[str, ImagePixels], groups: Sequence[TrainingGroup]) -> PackedRows:
    def positions(ids: Tensor, grids: Tensor | None) -> Tensor:
        return policy.model.get_rope_index(ids, (ids == IMAGE).int(), image_grid_thw=grids)[0]

    return pack_rows(groups, images.__getitem__, positions, image_token_id=IMAGE, merge_size=2, pad_token_id=0)


def on_device(rows: PackedRows, device: torch.device) -> PackedRows:
    tensors = {field.name: getattr(rows, field.name) for field in fields(rows)}
    return replace(rows, **{name: part.to(device) for name, part in tensors.items() if isinstance(part, Tensor)})


def packed_forward(
    policy: Policy, rows: PackedRows, *, entropy_gradient: bool = False, attention: str = SHARED_PROMPT
) -> tuple[Tensor, Tensor]:
    """(logprobs [N], entropies [N]) by the learner's own path, on the policy's device."""
    policy.set_attn_implementation({"text_config": attention, "vision_config": "sdpa"})
    try:
        return PolicyModule(policy)(
            on_device(rows, policy.device),
            temperature=TEMPERATURE,
            banned_token_ids=BANNED,
            entropy_gradient=entropy_gradient,
        )
    finally:
        policy.set_attn_implementation("sdpa")


def naive_forward(
    policy: Policy, images: dict[str, ImagePixels], groups: Sequence[TrainingGroup]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(position ids [3, P + R], logprobs [R], entropies [R]) of each response in a row of its own: all by transformers,
    and the banned tokens left out of the vocabulary."""
    allowed = [token for token in range(VOCABULARY) if token not in BANNED]
    for group in groups:
        pixels = [images[key] for key in group.image_keys]
        for response in group.responses:
            ids = torch.tensor([[*group.prompt_ids, *response.token_ids]], device=policy.device)
            kinds, grids = (ids == IMAGE).int(), torch.tensor([image.grid for image in pixels], device=policy.device)
            logits = policy(
                input_ids=ids,
                mm_token_type_ids=kinds,
                pixel_values=torch.cat([image.patches for image in pixels]).to(policy.device, policy.dtype),
                image_grid_thw=grids,
                use_cache=False,
            ).logits[0]
            logits = logits[len(group.prompt_ids) - 1 : -1, allowed] / TEMPERATURE
            logprobs = logits - logits.logsumexp(-1, keepdim=True)
            entropies = -(logprobs.exp() * logprobs).sum(-1)
            chosen = logprobs[range(len(response.token_ids)), [allowed.index(token) for token in response.token_ids]]
            yield policy.model.get_rope_index(ids, kinds, image_grid_thw=grids)[0][:, 0], chosen, entropies


def merged(layout: Layout) -> Layout:
    """A planted fault: all responses of a row are one, so that later ones see earlier ones."""
    return tuple(row._replace(branches=(Branch(0, row.num_tokens - row.prompt),)) for row in layout)


def unshared(layout: Layout) -> Layout:
    """A planted fault: no response sees what it shares with others."""
    return tuple(row._replace(branches=tuple(branch._replace(shared=0) for branch in row.branches)) for row in layout)


@contextmanager
def in_double() -> Iterator[None]:
    """Computes in float64 also where transformers asks for float32: norms, rotations, our logits."""

    class Double(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            func = torch.Tensor.double if func is torch.Tensor.float else func
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            kwargs = {k: torch.float64 if value is torch.float32 else value for k, value in (kwargs or {}).items()}
            return func(*args, **kwargs)

    with Double():
        yield


def relative_errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """|found - expected| / |expected| of every tensor, the norms L2."""
    assert found.keys() == expected.keys()
    return {name: ((found[name] - expected[name]).norm() / expected[name].norm()).item() for name in expected}
