"""Packs groups into shared-prompt rows: the prompt and its images once, the responses behind it.

A row is [prompt | response 1 | response 2 | ... | padding]. Every token sees the prompt and the earlier tokens of its
own response, and every response continues the prompt's positions, so each response is computed exactly as if it alone
followed the prompt. A response's last token predicts nothing and is left out of the row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.batching import row_length
from learner.types import TrainingGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePixels:
    """One preprocessed image: `patches` [num_patches, patch_dim] and its `grid` (t, h, w) in patches."""

    patches: Tensor
    grid: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """A micro-batch of B rows padded to length T, with N response tokens in row and response order."""

    query_ids: tuple[str, ...]  # [B]
    input_ids: Tensor  # [B, T]
    position_ids: Tensor  # [3, B, T] temporal, height, width
    layout: tuple[tuple[int, ...], ...]  # per row: prompt, responses, padding (see learner.attention)
    pixel_values: Tensor | None  # [num_patches, patch_dim] of all images, in row order
    image_grid_thw: Tensor | None  # [num_images, 3]
    predicting: Tensor  # [N] index into the flattened [B * T] hidden states whose position predicts the token
    targets: Tensor  # [N]
    sampler_logprobs: Tensor  # [N]
    advantages: Tensor  # [N]


PromptPositions = Callable[[Tensor, Tensor | None], Tensor]
"""(prompt ids [1, P], image grids [num_images, 3] or None) -> position ids [3, 1, P]: Hugging Face's get_rope_index."""


def pack_rows(
    groups: Sequence[TrainingGroup],
    images: Callable[[str], ImagePixels],
    prompt_positions: PromptPositions,
    *,
    image_token_id: int,
    merge_size: int,
    pad_token_id: int,
) -> PackedRows:
    """Rows of the groups. Raises ValueError, naming the query, when image tokens and pixel grids disagree."""
    length = max(row_length(group) for group in groups)
    input_ids = torch.full((len(groups), length), pad_token_id)  # [B, T]
    position_ids = torch.zeros(3, len(groups), length, dtype=torch.long)  # [3, B, T]
    layout: list[tuple[int, ...]] = []
    pixels: list[ImagePixels] = []
    predicting: list[Tensor] = []
    targets: list[int] = []
    sampler_logprobs: list[float] = []
    advantages: list[float] = []
    for row, group in enumerate(groups):
        row_pixels = [images(key) for key in group.image_keys]
        _check_image_tokens(group, row_pixels, image_token_id, merge_size)
        pixels += row_pixels
        num_prompt = len(group.prompt_ids)
        prompt = torch.tensor(group.prompt_ids)
        input_ids[row, :num_prompt] = prompt
        positions = prompt_positions(prompt[None], _grids(row_pixels))[:, 0]  # [3, P]
        position_ids[:, row, :num_prompt] = positions
        first_position = int(positions.max()) + 1
        start = num_prompt
        for response in group.responses:
            tokens = torch.tensor(response.token_ids)
            end = start + len(tokens) - 1
            input_ids[row, start:end] = tokens[:-1]
            position_ids[:, row, start:end] = torch.arange(first_position, first_position + len(tokens) - 1)
            offset = row * length
            predicting += [torch.tensor([offset + num_prompt - 1]), torch.arange(offset + start, offset + end)]
            targets += response.token_ids
            sampler_logprobs += response.sampler_logprobs
            advantages += [response.advantage] * len(tokens)
            start = end
        behind_prompt = [len(response.token_ids) - 1 for response in group.responses if len(response.token_ids) > 1]
        layout.append((num_prompt, *behind_prompt, length - start))
    return PackedRows(
        query_ids=tuple(group.query_id for group in groups),
        input_ids=input_ids,
        position_ids=position_ids,
        layout=tuple(layout),
        pixel_values=torch.cat([image.patches for image in pixels]) if pixels else None,
        image_grid_thw=_grids(pixels),
        predicting=torch.cat(predicting) if predicting else torch.zeros(0, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        sampler_logprobs=torch.tensor(sampler_logprobs, dtype=torch.float32),
        advantages=torch.tensor(advantages, dtype=torch.float32),
    )


def _grids(pixels: Sequence[ImagePixels]) -> Tensor | None:
    return torch.tensor([image.grid for image in pixels]) if pixels else None


def _check_image_tokens(
    group: TrainingGroup, pixels: Sequence[ImagePixels], image_token_id: int, merge_size: int
) -> None:
    in_prompt = sum(token == image_token_id for token in group.prompt_ids)
    in_grids = [t * h * w // merge_size**2 for t, h, w in (image.grid for image in pixels)]
    if in_prompt != sum(in_grids):
        raise ValueError(
            f"query {group.query_id!r}: the prompt holds {in_prompt} image tokens, but the image processor makes "
            f"{sum(in_grids)} ({in_grids}) of its {len(pixels)} image(s); the engine and the learner must use the same "
            "processor settings, and a prompt must never be truncated"
        )
