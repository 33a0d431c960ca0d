"""Training batches for the nano policy: one row an image, several queries about it behind one shared prefix."""

import io
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from medvie_rl.data.prompts import PromptTemplate, render_chat
from medvie_rl.data.synthetic import HEIGHT, KINDS, PITCH, Slip, draw_slip
from medvie_rl.nano.corpus import (
    CELLS_PER_ROW,
    MIXTURE,
    NOWHERE,
    Mixture,
    crop_lines,
    draw_behaviour,
    draw_keys,
    line_cells,
    practice_strip,
    write_response,
    write_transcript,
)
from medvie_rl.nano.model import PAPER_MEAN, PAPER_STD
from medvie_rl.nano.tokenizer import END_OF_TURN, IMAGE, PAD
from rewards.schema import Schema

IGNORED = -100
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:/.,-=+%()"
SLOTS = 4  # characters whose centre lies in one 16 pixel cell, at most
FULL_PAGE = HEIGHT // PITCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the batches of one part of the training look like."""

    images: int  # per step
    queries: int = 1  # per image; 0 trains the vision tower alone
    practice: bool = False  # strips full of made-up words, to be copied, instead of slips with queries
    lines: int = FULL_PAGE  # fewer: strips of that many lines
    whole_schema: float = 0.35  # share of queries for all keys of the schema, as evaluation asks
    reasoning: float = 0.6  # share of queries that ask for reasoning
    mixture: Mixture = MIXTURE


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Tensors of one step: B images of L cells, Q queries (the same number for every image), N tokens in all of them.

    The prompt up to the question is the prefix, P tokens, which the queries of an image share.
    """

    patches: torch.Tensor  # [B, L, 256] normalised grey
    characters: torch.Tensor  # [B, L, SLOTS], 0 where the cell has no further character
    prefix_tokens: torch.Tensor  # [B, P]
    prefix_positions: torch.Tensor  # [3, P]
    tokens: torch.Tensor  # [N] questions with their responses, one after the other
    positions: torch.Tensor  # [3, N]
    labels: torch.Tensor  # [N] the next token, IGNORED outside responses
    cells: torch.Tensor  # [N] the image cell that the next token is read from, or NOWHERE
    here_cells: torch.Tensor  # [N] the same of the token itself
    places: torch.Tensor  # [Q, R] index into N, padded at the right with 0
    real: torch.Tensor  # [Q, R] False on padding
    image_start: int  # index of the first image token in the prefix


class _Query(NamedTuple):
    tokens: list[int]
    labels: list[int]
    cells: list[int]


class BatchMaker:
    """Draws slips of the pre-training split with queries and responses; the same seed gives the same batches."""

    def __init__(self, processor: Any, schemas: Mapping[str, Schema], template: PromptTemplate, *, seed: int) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._schemas = schemas
        self._template = template
        self._seed = seed
        self._rng = random.Random(f"nano batches {seed}")
        self._num_drawn = 0
        self._end, self._pad, self._image = self._tokenizer.convert_tokens_to_ids([END_OF_TURN, PAD, IMAGE])

    def draw(self, stage: Stage) -> Batch:
        """The next batch."""
        slips = [self._draw_slip(stage) for _ in range(stage.images)]
        patches, characters = self._see(slips, stage.lines)
        queries = [self._query(slip, stage) for slip in slips for _ in range(stage.queries)]
        prefix, prefix_positions, first = self._prefix(stage.lines)
        lengths = [len(query.tokens) for query in queries]
        real = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        num_tokens = sum(lengths)
        return Batch(
            patches=patches,
            characters=characters,
            prefix_tokens=torch.tensor(prefix).repeat(len(slips), 1),
            prefix_positions=prefix_positions,
            tokens=torch.tensor([token for query in queries for token in query.tokens]),
            positions=torch.cat([torch.arange(first, first + length) for length in lengths]).repeat(3, 1),
            labels=torch.tensor([label for query in queries for label in query.labels]),
            cells=torch.tensor([cell for query in queries for cell in query.cells]),
            here_cells=torch.tensor([cell for query in queries for cell in [NOWHERE, *query.cells[:-1]]]),
            places=torch.zeros(real.shape, dtype=torch.long).masked_scatter(real, torch.arange(num_tokens)),
            real=real,
            image_start=prefix.index(self._image),
        )

    def draw_images(self, stage: Stage) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches and characters (as in `Batch`) alone."""
        return self._see([self._draw_slip(stage) for _ in range(stage.images)], stage.lines)

    def _see(self, slips: list[Slip], lines: int) -> tuple[torch.Tensor, torch.Tensor]:
        patches = torch.stack([slip_patches(slip.image) for slip in slips])
        return patches, torch.stack([_cell_characters(slip, lines) for slip in slips])

    def _draw_slip(self, stage: Stage) -> Slip:
        if stage.practice:
            return practice_strip(stage.lines, self._rng)
        while True:
            kind = KINDS[self._num_drawn % len(KINDS)]
            slip = draw_slip(kind, split="pretrain", seed=self._seed, index=self._num_drawn)
            self._num_drawn += 1
            if stage.lines == FULL_PAGE:
                return slip
            if len(slip.lines) >= stage.lines:
                return crop_lines(slip, self._rng.randint(0, len(slip.lines) - stage.lines), stage.lines)

    def _query(self, slip: Slip, stage: Stage) -> _Query:
        if stage.practice:
            question, response = self._render("think:")[1], write_transcript(slip)
        else:
            schema = self._schemas[slip.schema]
            keys = draw_keys(schema, slip, self._rng, whole=stage.whole_schema)
            reasoning = self._rng.random() < stage.reasoning
            question = self._render(self._template.user_text(schema, keys, reasoning=reasoning))[1]
            behaviour = draw_behaviour(stage.mixture, self._rng)
            response = write_response(slip, keys, behaviour, self._rng, reasoning=reasoning)
        asked = self._tokenizer(question).input_ids
        answered = self._tokenizer(response.text, return_offsets_mapping=True)
        cells = [_token_cell(response.text, response.cells, *span) for span in answered.offset_mapping]
        silent = len(asked) - 1  # the last prompt token predicts the first of the response
        return _Query(
            tokens=asked + answered.input_ids,
            labels=[IGNORED] * silent + answered.input_ids + [self._end],
            cells=[NOWHERE] * silent + cells + [NOWHERE],
        )

    def _prefix(self, lines: int) -> tuple[list[int], torch.Tensor, int]:
        """Everything before the text of the question: tokens, positions [3, P], and the position that comes next.

        Positions follow Qwen2.5-VL's rule for one image: (time, row, column) from the image's start, then on from the
        greatest of them.
        """
        before = self._tokenizer(self._render("")[0]).input_ids
        start, cells = len(before), torch.arange(lines * CELLS_PER_ROW)
        grid = torch.stack([torch.zeros_like(cells), cells // CELLS_PER_ROW, cells % CELLS_PER_ROW])
        positions = torch.cat([torch.arange(start).repeat(3, 1), start + grid], dim=1)
        return before + [self._image] * len(cells), positions, start + max(lines, CELLS_PER_ROW)

    def _render(self, user_text: str) -> tuple[str, str]:
        """The prompt before and after its image."""
        before, after = render_chat(self._processor, user_text).split(IMAGE)
        return before, after


def slip_patches(image: bytes) -> torch.Tensor:
    """The grey 16×16 patches of an encoded image, row by row, as the processor normalises them. [L, 256]"""
    with Image.open(io.BytesIO(image)) as opened:
        pixels = torch.from_numpy(np.asarray(opened, dtype=np.float32))
    height, width = pixels.shape
    grid = ((pixels / 255 - PAPER_MEAN) / PAPER_STD).view(height // PITCH, PITCH, width // PITCH, PITCH)
    return grid.permute(0, 2, 1, 3).reshape(-1, PITCH * PITCH)


def _cell_characters(slip: Slip, rows: int) -> torch.Tensor:
    """The characters in each cell from left to right, blanks not counted. [L, SLOTS]"""
    found: list[list[int]] = [[] for _ in range(rows * CELLS_PER_ROW)]
    for line, cells in zip(slip.lines, line_cells(slip), strict=True):
        for character, cell in zip(line.text, cells, strict=True):
            if character != " ":
                found[cell].append(CHARACTERS.index(character) + 1)
    return torch.tensor([(codes + [0] * SLOTS)[:SLOTS] for codes in found])


def _token_cell(text: str, cells: list[int], start: int, end: int) -> int:
    """The cell of a token's first printed character that is not a blank."""
    for index in range(start, end):
        if cells[index] != NOWHERE and (text[index] != " " or index == end - 1):
            return cells[index]
    return NOWHERE
