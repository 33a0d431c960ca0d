"""Attention over shared-prompt rows for GPUs: one fused kernel that skips the blocks of keys that nobody may see.

Registered in transformers as `shared_prompt_flex`, for the text part of the policy; the same rows, layout and results
as in `learner.attention`. PyTorch's flex attention has no backward pass on CPU, so there it only evaluates.
"""

from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface

from learner.layout import Layout, paths_of

SHARED_PROMPT_FLEX = "shared_prompt_flex"


def shared_prompt_flex_attention(
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
        raise ValueError("the attention 'shared_prompt_flex' needs the rows' layout and no mask; it takes packed rows")
    if dropout:
        raise ValueError(f"the attention 'shared_prompt_flex' has no dropout, got {dropout}")
    shape = query.transpose(1, 2).shape
    query, key, value = (  # [1, H, B * T, D]: rows behind one another
        states.transpose(1, 2).flatten(0, 1)[None].transpose(1, 2) for states in (query, key, value)
    )
    attend = _compiled(flex_attention) if query.is_cuda else flex_attention
    mask = shared_prompt_mask(layout, query.device)
    output = attend(query, key, value, block_mask=mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])
    return output.transpose(1, 2).reshape(shape), None


@lru_cache(maxsize=2)  # the layers of a forward pass, and its recomputation in the backward pass, share one
def shared_prompt_mask(layout: Layout, device: torch.device) -> BlockMask:
    """Which keys [B * T] each token [B * T] sees: the prompt and its own response, both causally; padding sees none."""
    end = ends_of(layout).to(device)

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < end[key])

    make = _compiled(create_block_mask) if device.type == "cuda" else create_block_mask
    mask: BlockMask = make(visible, None, None, len(end), len(end), device=device)
    return mask


def ends_of(layout: Layout) -> Tensor:
    """[B * T] where the tokens end that see a token, which are all from itself on: its subtree. Nobody sees padding."""
    ends = torch.arange(sum(row.num_tokens + row.padding for row in layout))
    start = 0
    for row in layout:
        first = start + row.prompt
        ends[start:first] = start + row.num_tokens
        end = first
        for branch, path in zip(row.branches, paths_of(row.branches), strict=True):
            end += branch.own
            ends[first + torch.tensor(path)] = end  # again for what later branches share
        start += row.num_tokens + row.padding
    return ends


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function)


AttentionInterface.register(SHARED_PROMPT_FLEX, shared_prompt_flex_attention)
