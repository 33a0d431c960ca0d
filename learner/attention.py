"""Attention over shared-prompt rows without a mask matrix: each part attends to exactly the keys that it may see.

Registered in transformers as `shared_prompt`, for the text part of the policy. The prompt attends causally to itself; a
response to the prompt and causally to itself, what it shares with others included. The cost is about that of the pairs
that matter, and nothing of size T x T is ever allocated.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from learner.cpu_attention import CpuAttention
from learner.layout import Layout
from learner.slots import slots_of, take

SHARED_PROMPT = "shared_prompt"


def shared_prompt_attention(
    module: Any,
    query: Tensor,  # [B, H, T, D]
    key: Tensor,  # [B, H / groups, T, D]
    value: Tensor,  # [B, H / groups, T, D]
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention output [B, T, H, D] in the signature of transformers' AttentionInterface; padding gets zeros."""
    if layout is None or attention_mask is not None:
        raise ValueError("the attention 'shared_prompt' needs the rows' layout and no mask; call it on packed rows")
    if dropout:
        raise ValueError(f"the attention 'shared_prompt' has no dropout, got {dropout}")
    shape = query.transpose(1, 2).shape
    key, value = (repeat_kv(states, query.shape[1] // states.shape[1]) for states in (key, value))
    query, key, value = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))  # [B * T, H, D]
    if query.device.type == "cpu":
        return CpuAttention.apply(query, key, value, layout, scaling).view(shape), None
    return batched_attention(query, key, value, layout, scaling).view(shape), None


def batched_attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float | None) -> Tensor:
    """Outputs [M, H, D] of queries, keys and values [M, H, D] of the layout's tokens: the prompts as one batch, and
    responses of similar length as one each, every response with a copy of its prompt's keys and values."""
    slots = slots_of(layout, query.device)
    query, key, value = (take(states, slots.token_of_slot) for states in (query, key, value))  # [num_slots, H, D]
    prompts = (len(layout), slots.num_prompt)
    prompt_query, prompt_key, prompt_value = (_batch(states, 0, prompts) for states in (query, key, value))
    outputs = [_attend(prompt_query, prompt_key, prompt_value, is_causal=True, scale=scale)]
    for part, mask in zip(slots.responses, _masks(layout, query.device, query.dtype), strict=True):
        part_query, part_key, part_value = (_batch(states, part.start, part.size) for states in (query, key, value))
        part_key = torch.cat([prompt_key.index_select(0, part.rows), part_key], dim=1)
        part_value = torch.cat([prompt_value.index_select(0, part.rows), part_value], dim=1)
        outputs.append(_attend(part_query, part_key, part_value, attn_mask=mask, scale=scale))
    output = torch.cat([output.flatten(0, 1) for output in outputs])  # [num_slots, H, D]
    return take(output, slots.slot_of_token)


@lru_cache(maxsize=2)
def _masks(layout: Layout, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Additive [responses, 1, longest, num_prompt + longest] for each batch: the prompt, and the response causally."""
    slots = slots_of(layout, device)
    prompts = torch.tensor([row.prompt for row in layout], device=device)
    masks = []
    for part in slots.responses:
        num_responses, longest = part.size
        keys = torch.arange(slots.num_prompt + longest, device=device)
        in_prompt = keys < prompts[part.rows][:, None, None, None]
        own = keys - slots.num_prompt
        in_response = (own >= 0) & (own <= torch.arange(longest, device=device)[:, None])
        mask = torch.zeros(num_responses, 1, longest, len(keys), dtype=dtype, device=device)
        masks.append(mask.masked_fill_(~(in_prompt | in_response), float("-inf")))
    return masks


def _batch(states: Tensor, start: int, size: tuple[int, int]) -> Tensor:
    """A view [parts, length, H, D] of the slots [num_slots, H, D]."""
    return states[start : start + size[0] * size[1]].unflatten(0, size)


def _attend(query: Tensor, key: Tensor, value: Tensor, **settings: Any) -> Tensor:
    """Attention over [parts, length, H, D]."""
    output: Tensor = scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), **settings
    )
    return output.transpose(1, 2)


AttentionInterface.register(SHARED_PROMPT, shared_prompt_attention)
