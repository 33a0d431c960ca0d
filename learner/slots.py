"""The tokens of shared-prompt rows in batches: the prompts as one, responses of similar length as one each."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

Layout = tuple[tuple[int, ...], ...]
"""Per row: the prompt's length, the length of every response in the row (each >= 1), and the padding (>= 0). The rows'
tokens are those of [B, T] flattened, so rows may also lie behind one another in a single one [1, B * T]."""

_SHORTEST = 0.75  # of the longest response in a batch of responses


@dataclass(frozen=True, slots=True)
class Responses:
    """A batch of `size` (responses, longest), in the slots from `start` on."""

    start: int
    size: tuple[int, int]
    rows: Tensor  # [responses]
    slots: Tensor  # [n] which of the batch's own slots, from 0, hold a token
    tokens: Tensor  # [n] the tokens in them


@dataclass(frozen=True, slots=True)
class Slots:
    """Where tokens go: first the rows' prompts, each in `num_prompt` slots, then the responses."""

    num_prompt: int
    responses: tuple[Responses, ...]
    token_of_slot: Tensor  # [num_slots], the number of tokens where there is none
    slot_of_token: Tensor  # [num_tokens], the number of slots for padding


@lru_cache(maxsize=2)  # the layers of a forward pass, and its recomputation in the backward pass, share one
def slots_of(layout: Layout, device: torch.device) -> Slots:
    """Slots of the layout; responses share a batch with those that are at most a third longer."""
    num_prompt = max(sizes[0] for sizes in layout)
    num_tokens = sum(map(sum, layout))
    parts = []  # (length, row, first token) of every response
    places: list[Tensor] = []
    start = 0
    for row, (prompt, *responses, padding) in enumerate(layout):
        places.append(_places(start, prompt, num_prompt, num_tokens))
        start += prompt
        for length in responses:
            parts.append((length, row, start))
            start += length
        start += padding
    batches: list[list[tuple[int, int, int]]] = []
    for part in sorted(parts, key=lambda part: (-part[0], part[2])):
        if batches and part[0] >= _SHORTEST * batches[-1][0][0]:
            batches[-1].append(part)
        else:
            batches.append([part])
    found = []
    for batch in batches:
        longest = batch[0][0]
        tokens = torch.cat([_places(first, length, longest, num_tokens) for length, _, first in batch])
        found.append(
            Responses(
                start=sum(map(len, places)),
                size=(len(batch), longest),
                rows=torch.tensor([row for _, row, _ in batch], device=device),
                slots=(tokens < num_tokens).nonzero()[:, 0].to(device),
                tokens=tokens[tokens < num_tokens].to(device),
            )
        )
        places.append(tokens)
    token_of_slot = torch.cat(places)
    slot_of_token = torch.full((num_tokens + 1,), len(token_of_slot))
    slot_of_token[token_of_slot] = torch.arange(len(token_of_slot))
    return Slots(num_prompt, tuple(found), token_of_slot.to(device), slot_of_token[:-1].to(device))


class Move(torch.autograd.Function):  # type: ignore[misc]
    """Entries of `states` [N, ...] at `index` [M], zeros where the index is N; `back` [N] is where each entry went.

    No entry goes to two places, so the gradient comes back by the same operation; autograd's own would add them one
    by one.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(index, back)
        return _take(states, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        _, back = ctx.saved_tensors
        return _take(gradient, back), None, None


def _take(states: Tensor, index: Tensor) -> Tensor:
    return torch.cat([states, states.new_zeros(1, *states.shape[1:])]).index_select(0, index)


def _places(first: int, length: int, longest: int, none: int) -> Tensor:
    places = torch.full((longest,), none)
    places[:length] = torch.arange(first, first + length)
    return places
