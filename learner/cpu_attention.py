"""Attention over shared-prompt rows on a CPU: no key or value of a prompt is copied for its responses.

A response attends to its prompt and to itself in two calls of PyTorch's fused kernel, whose results are weighted by
their shares of the softmax's sum. In the backward pass each call is given the whole output and the whole sum, which
makes what it returns its part of the whole gradient (as in ring attention, arXiv 2310.01889). A token that several
responses share asks in one of them only, and is a key and a value in each.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from learner.layout import Layout
from learner.slots import Responses, slots_of

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class CpuAttention(torch.autograd.Function):  # type: ignore[misc]
    """Outputs [M, H, D] of queries, keys and values [M, H, D] of the layout's tokens; padding gets zeros."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float | None) -> Tensor:
        output = torch.zeros_like(query)
        exact = torch.promote_types(query.dtype, torch.float32)
        sums = query.new_zeros(query.shape[:2], dtype=exact)  # [M, H] logarithms
        for queries, keys, causal in _spans(layout):
            found = _forward(_of(query, queries), _of(key, keys), _of(value, keys), 0.0, causal, scale=scale)
            output[queries], sums[queries] = _tokens_first(found[0]), found[1][0].T
        for batch in slots_of(layout, query.device).responses:
            found = _forward(*(_slots(states, batch) for states in (query, key, value)), 0.0, True, scale=scale)
            own, own_sums = (_tokens(part, batch.own_slots) for part in (found[0], found[1][..., None]))
            before = sums[batch.own_tokens]
            total = torch.logaddexp(before, own_sums[..., 0])
            share = (before - total).exp()[..., None].to(output.dtype)
            output[batch.own_tokens] = output[batch.own_tokens] * share + own * (1 - share)
            sums[batch.own_tokens] = total
        ctx.save_for_backward(query, key, value, output, sums)
        ctx.layout, ctx.scale = layout, scale
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, output, sums = ctx.saved_tensors
        gradients = [torch.zeros_like(states) for states in (query, key, value)]
        for queries, keys, causal in _spans(ctx.layout):
            given = (_of(query, queries), _of(key, keys), _of(value, keys), _of(output, queries))
            sums_of = sums[queries].T[None]
            found = _backward(_of(gradient, queries), *given, sums_of, 0.0, causal, scale=ctx.scale)
            for whole, part, span in zip(gradients, found, (queries, keys, keys), strict=True):
                whole[span] += _tokens_first(part)
        for batch in slots_of(ctx.layout, query.device).responses:
            of_slots = (_slots(states, batch) for states in (query, key, value, output))
            own = _slots(gradient, batch, own=True)
            found = _backward(own, *of_slots, _slots(sums[..., None], batch)[..., 0], 0.0, True, scale=ctx.scale)
            gradients[0].index_add_(0, batch.own_tokens, _tokens(found[0], batch.own_slots))
            for whole, part in zip(gradients[1:], found[1:], strict=True):
                whole.index_add_(0, batch.tokens, _tokens(part, batch.slots))
        return gradients[0], gradients[1], gradients[2], None, None


def _spans(layout: Layout) -> Iterator[tuple[slice, slice, bool]]:
    """(queries, keys, causal): each prompt to itself, and the responses behind it to it."""
    start = 0
    for row in layout:
        prompt = slice(start, start + row.prompt)
        responses = slice(prompt.stop, start + row.num_tokens)
        yield prompt, prompt, True
        if responses.start < responses.stop:
            yield responses, prompt, False
        start = responses.stop + row.padding


def _of(states: Tensor, span: slice) -> Tensor:
    """[1, H, n, D] of tokens [M, H, D]."""
    return states[span].transpose(0, 1)[None]


def _tokens_first(states: Tensor) -> Tensor:
    """[n, H, D] of [1, H, n, D]."""
    return states[0].transpose(0, 1)


def _slots(states: Tensor, batch: Responses, *, own: bool = False) -> Tensor:
    """[responses, H, longest, D] of tokens [M, H, D], zeros where a response is shorter or a token not its `own`."""
    where, tokens = (batch.own_slots, batch.own_tokens) if own else (batch.slots, batch.tokens)
    slots = states.new_zeros(batch.size[0] * batch.size[1], *states.shape[1:])
    slots.index_copy_(0, where, states.index_select(0, tokens))
    return slots.unflatten(0, batch.size).transpose(1, 2)


def _tokens(states: Tensor, slots: Tensor) -> Tensor:
    """[n, H, D] of [responses, H, longest, D]."""
    return states.transpose(1, 2).flatten(0, 1).index_select(0, slots)
