"""The tokens of shared-prompt rows in batches: the prompts as one, responses of similar length as one each."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from learner.layout import Layout, paths_of

_SHORTEST = 0.75  # of the longest response in a batch of responses


@dataclass(frozen=True, slots=True)
class Responses:
    """A batch of `size` (responses, longest), in the slots from `start` on. Tokens that a response shares with the one
    before it are in the slots of both, and belong to the first that has them."""

    start: int
    size: tuple[int, int]
    rows: Tensor  # [responses]
    slots: Tensor  # [n] which of the batch's own slots, from 0, hold a token
    tokens: Tensor  # [n] the tokens in them
    own_slots: Tensor  # [m] those of them whose token belongs to the response
    own_tokens: Tensor  # [m]


@dataclass(frozen=True, slots=True)
class Slots:
    """Where tokens go: first the rows' prompts, each in `num_prompt` slots, then the responses."""

    num_prompt: int
    responses: tuple[Responses, ...]
    token_of_slot: Tensor  # [num_slots], the number of tokens where there is none
    slot_of_token: Tensor  # [num_tokens] the slot where it belongs, the number of slots for padding


@lru_cache(maxsize=2)  # the layers of a forward pass, and its recomputation in the backward pass, share one
def slots_of(layout: Layout, device: torch.device) -> Slots:
    """Slots of the layout; responses share a batch with those that are at most a third longer."""
    num_prompt = max(row.prompt for row in layout)
    num_tokens = sum(row.num_tokens + row.padding for row in layout)
    parts: list[tuple[int, Tensor, int]] = []  # (row, tokens, how many of them it shares) of every response
    places: list[Tensor] = []
    start = 0
    for number, row in enumerate(layout):
        places.append(_filled(torch.arange(start, start + row.prompt), num_prompt, num_tokens))
        first = start + row.prompt
        for branch, path in zip(row.branches, paths_of(row.branches), strict=True):
            parts.append((number, first + torch.tensor(path), branch.shared))
        start += row.num_tokens + row.padding
    slot_of_token = torch.full((num_tokens + 1,), -1)
    slot_of_token[torch.cat(places)] = torch.arange(len(layout) * num_prompt)
    batches: list[list[tuple[int, Tensor, int]]] = []
    for part in sorted(parts, key=lambda part: -len(part[1])):
        if batches and len(part[1]) >= _SHORTEST * len(batches[-1][0][1]):
            batches[-1].append(part)
        else:
            batches.append([part])
    found = []
    for batch in batches:
        longest = len(batch[0][1])
        start = sum(map(len, places))
        tokens = torch.cat([_filled(path, longest, num_tokens) for _, path, _ in batch])
        own = torch.cat([_filled(path[shared:], longest, num_tokens, before=shared) for _, path, shared in batch])
        slots, own_slots = ((there < num_tokens).nonzero()[:, 0] for there in (tokens, own))
        slot_of_token[own[own_slots]] = start + own_slots
        found.append(
            Responses(
                start=start,
                size=(len(batch), longest),
                rows=torch.tensor([row for row, _, _ in batch], device=device),
                slots=slots.to(device),
                tokens=tokens[slots].to(device),
                own_slots=own_slots.to(device),
                own_tokens=own[own_slots].to(device),
            )
        )
        places.append(tokens)
    token_of_slot = torch.cat(places)
    slot_of_token = slot_of_token[:-1].masked_fill(slot_of_token[:-1] < 0, len(token_of_slot))
    return Slots(num_prompt, tuple(found), token_of_slot.to(device), slot_of_token.to(device))


def take(states: Tensor, index: Tensor) -> Tensor:
    """Entries of `states` [N, ...] at `index` [M], zeros where the index is N."""
    return torch.cat([states, states.new_zeros(1, *states.shape[1:])]).index_select(0, index)


def _filled(tokens: Tensor, length: int, none: int, *, before: int = 0) -> Tensor:
    """The tokens [n] in [length], from `before` on, `none` around them."""
    places = torch.full((length,), none)
    places[before : before + len(tokens)] = tokens
    return places
