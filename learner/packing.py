"""Packs groups into shared-prompt rows: the prompt and its images once, the responses behind it.

A row is [prompt | responses | padding]. Every token sees the prompt and the earlier tokens of its own response, and
every response continues the prompt's positions, so each response is computed exactly as if it alone followed the
prompt. What responses begin with in common is there once, too (see learner.layout). A response's last token predicts
nothing and is left out of the row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.batching import row_length
from learner.layout import Layout, RowLayout, paths_of, prefix_tree
from learner.types import TrainingGroup, TrainingResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePixels:
    """One preprocessed image: `patches` [num_patches, patch_dim] and its `grid` (t, h, w) in patches."""

    patches: Tensor
    grid: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFeatures:
    """The frozen vision tower's output for one image: `features` [num_image_tokens, (1 + K) * D] (see
    learner.families), and the image's `grid`."""

    features: Tensor
    grid: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """A micro-batch of B rows padded to length T, with N response tokens in row and response order."""

    query_ids: tuple[str, ...]  # [B]
    input_ids: Tensor  # [B, T]
    position_ids: Tensor  # [3, B, T] temporal, height, width
    layout: Layout  # [B]
    pixel_values: Tensor | None  # [num_patches, patch_dim] of all images, in row order
    image_grid_thw: Tensor | None  # [num_images, 3]
    image_features: Tensor | None  # [num_image_tokens, (1 + K) * D] in row order, in place of pixel values
    predicting: Tensor  # [N] index into the flattened [B * T] hidden states whose position predicts the token
    targets: Tensor  # [N]
    sampler_logprobs: Tensor | None  # [N]; None for demonstrations, which no policy sampled
    advantages: Tensor  # [N]
    response: Tensor  # [N] which of the rows' S responses the token belongs to, from 0, in order
    traces: tuple[tuple[str, int], ...]  # [S] (query id, trace) of the responses


PromptPositions = Callable[[Tensor, Tensor | None], Tensor]
"""(prompt ids [1, P], image grids [num_images, 3] or None) -> position ids [3, 1, P]: Hugging Face's get_rope_index."""


def pack_rows(
    groups: Sequence[TrainingGroup],
    images: Callable[[str], ImagePixels | ImageFeatures],
    prompt_positions: PromptPositions,
    *,
    image_token_id: int,
    merge_size: int,
    pad_token_id: int,
) -> PackedRows:
    """Rows of the groups, whose images are all pixels or all features.

    Raises ValueError, naming the query, when image tokens and pixel grids disagree.
    """
    length = max(row_length(group) for group in groups)
    input_ids = torch.full((len(groups), length), pad_token_id)  # [B, T]
    position_ids = torch.zeros(3, len(groups), length, dtype=torch.long)  # [3, B, T]
    layout: list[RowLayout] = []
    row_images: list[ImagePixels | ImageFeatures] = []
    predicting: list[Tensor] = []
    for row, group in enumerate(groups):
        of_row = [images(key) for key in group.image_keys]
        _check_image_tokens(group, of_row, image_token_id, merge_size)
        row_images += of_row
        num_prompt = len(group.prompt_ids)
        prompt = torch.tensor(group.prompt_ids)
        input_ids[row, :num_prompt] = prompt
        positions = prompt_positions(prompt[None], _grids(of_row))[:, 0]  # [3, P]
        position_ids[:, row, :num_prompt] = positions
        first_position = int(positions.max()) + 1
        branches, of_path = prefix_tree([response.token_ids[:-1] for response in group.responses])
        offsets = paths_of(branches)
        for response, number in zip(group.responses, of_path, strict=True):
            where = num_prompt + torch.tensor(offsets[number] if number >= 0 else [], dtype=torch.long)
            input_ids[row, where] = torch.tensor(response.token_ids[:-1], dtype=torch.long)
            position_ids[:, row, where] = torch.arange(first_position, first_position + len(where))
            predicting += [torch.tensor([row * length + num_prompt - 1]), row * length + where]
        unpadded = RowLayout(num_prompt, branches, padding=0)
        layout.append(unpadded._replace(padding=length - unpadded.num_tokens))
    responses = [response for group in groups for response in group.responses]
    lengths = torch.tensor([len(response.token_ids) for response in responses], dtype=torch.long)  # [S]
    features = [image.features for image in row_images if isinstance(image, ImageFeatures)]
    patches = [image.patches for image in row_images if isinstance(image, ImagePixels)]
    return PackedRows(
        query_ids=tuple(group.query_id for group in groups),
        input_ids=input_ids,
        position_ids=position_ids,
        layout=tuple(layout),
        pixel_values=torch.cat(patches) if patches else None,
        image_grid_thw=_grids(row_images),
        image_features=torch.cat(features) if features else None,
        predicting=torch.cat(predicting) if predicting else torch.zeros(0, dtype=torch.long),
        targets=torch.tensor([token for response in responses for token in response.token_ids], dtype=torch.long),
        sampler_logprobs=_sampler_logprobs(responses),
        advantages=torch.tensor([response.advantage for response in responses]).repeat_interleave(lengths),
        response=torch.arange(len(responses)).repeat_interleave(lengths),
        traces=tuple((group.query_id, response.trace) for group in groups for response in group.responses),
    )


def _sampler_logprobs(responses: Sequence[TrainingResponse]) -> Tensor | None:
    sampled = [response.sampler_logprobs for response in responses]
    if any(logprobs is None for logprobs in sampled):
        return None
    return torch.tensor([value for logprobs in sampled if logprobs for value in logprobs])


def _grids(images: Sequence[ImagePixels | ImageFeatures]) -> Tensor | None:
    return torch.tensor([image.grid for image in images]) if images else None


def _check_image_tokens(
    group: TrainingGroup, images: Sequence[ImagePixels | ImageFeatures], image_token_id: int, merge_size: int
) -> None:
    in_prompt = sum(token == image_token_id for token in group.prompt_ids)
    in_grids = [t * h * w // merge_size**2 for t, h, w in (image.grid for image in images)]
    if in_prompt != sum(in_grids):
        raise ValueError(
            f"query {group.query_id!r}: the prompt holds {in_prompt} image tokens, but the image processor makes "
            f"{sum(in_grids)} ({in_grids}) of its {len(images)} image(s); the engine and the learner must use the same "
            "processor settings, and a prompt must never be truncated"
        )
