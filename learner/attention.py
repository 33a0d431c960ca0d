"""Attention over shared-prompt rows without a mask matrix: each part attends to exactly the keys that it may see.

Registered in transformers as `shared_prompt`, for the text part of the policy. A row's layout is (prompt length,
length of each response, padding). The prompt attends causally to itself; a response to the prompt and causally to
itself. The cost is that of the pairs that matter: for 8 responses of 70 tokens behind a prompt of 130 a quarter of the
dense mask's, and nothing of size T x T is ever allocated.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

SHARED_PROMPT = "shared_prompt"

Layout = tuple[tuple[int, ...], ...]
"""Per row: the prompt's length, the length of every response in the row (each >= 1), and the padding (>= 0)."""


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
    key, value = (repeat_kv(states, query.shape[1] // states.shape[1]) for states in (key, value))
    masks: dict[tuple[int, int], Tensor] = {}
    outputs = []
    for row, sizes in enumerate(layout):
        parts = (states[row : row + 1].split(sizes, dim=2) for states in (query, key, value))
        (prompt, prompt_key, prompt_value), *responses, (padding, *_rest) = zip(*parts, strict=True)
        outputs_of_row = [
            scaled_dot_product_attention(
                prompt, prompt_key, prompt_value, is_causal=True, scale=scaling, dropout_p=dropout
            )
        ]
        for part, part_key, part_value in responses:
            shape = (prompt.shape[2], part.shape[2])
            if shape not in masks:
                masks[shape] = _response_mask(*shape, part)
            outputs_of_row.append(
                scaled_dot_product_attention(
                    part,
                    torch.cat([prompt_key, part_key], dim=2),
                    torch.cat([prompt_value, part_value], dim=2),
                    attn_mask=masks[shape],
                    scale=scaling,
                    dropout_p=dropout,
                )
            )
        outputs.append(torch.cat([*outputs_of_row, torch.zeros_like(padding)], dim=2))
    return torch.cat(outputs).transpose(1, 2), None


def _response_mask(num_prompt: int, length: int, like: Tensor) -> Tensor:
    """Additive [length, num_prompt + length]: the whole prompt, and the response causally."""
    mask = torch.full((length, num_prompt + length), float("-inf"), dtype=like.dtype, device=like.device)
    return mask.triu_(num_prompt + 1)


AttentionInterface.register(SHARED_PROMPT, shared_prompt_attention)
