"""The nano policy's training step: its forward pass with shared prefixes, and two helpers that are not exported.

The helpers make reading learnable in minutes. An auxiliary head names the characters in every image cell; a guide loss
points some attention heads of the text layers at the cell that the next token is read from. The forward pass runs the
Hugging Face modules themselves, only batched: transformers loops over images, and here all of a batch have one size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

from medvie_rl.nano.batches import CHARACTERS, FULL_PAGE, IGNORED, SLOTS, Batch
from medvie_rl.nano.corpus import CELLS_PER_ROW, NOWHERE

# Guided heads of the text layers by number: some point at the cell that the current token was read from ("here"), the
# heads after them at the cell of the next token. A layer can only step to the next cell once it knows where it is.
_HERE_HEADS = {1: 1}
_NEXT_HEADS = {1: 1, 2: 2, 3: 1}
_PLACES_AFTER = 0  # the text layer behind which every image cell should know its row and column


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The parts of one step's loss: per response token, guided token and head, character of a cell, and cell."""

    answer: torch.Tensor
    guide: torch.Tensor
    characters: torch.Tensor
    places: torch.Tensor


class Trainee(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A policy with its training-only character head."""

    def __init__(self, policy: Qwen2_5_VLForConditionalGeneration) -> None:
        super().__init__()
        self.policy = policy
        hidden = policy.config.text_config.hidden_size
        self.character_head = nn.Linear(hidden, SLOTS * (len(CHARACTERS) + 1))
        self.row_head = nn.Linear(hidden, FULL_PAGE)
        self.column_head = nn.Linear(hidden, CELLS_PER_ROW)

    def see(self, patches: torch.Tensor) -> torch.Tensor:
        """Image embeddings of grey patches. [B, L, 256] -> [B, L, hidden]"""
        visual: Any = self.policy.model.visual
        # The image is grey and still: the weights of the three channels and two frames act as their sum.
        weight = visual.patch_embed.proj.weight.sum(dim=(1, 2)).flatten(1)
        hidden = F.linear(patches, weight)
        cells = torch.arange(patches.shape[1])
        cos, sin = visual.rotary_pos_emb(hidden, torch.stack([cells // CELLS_PER_ROW, cells % CELLS_PER_ROW], dim=-1))
        for block in visual.blocks:
            attention = block.attn
            qkv = attention.qkv(block.norm1(hidden)).unflatten(-1, (3, attention.num_heads, -1))
            query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, L, head_dim]
            query, key = apply_rotary_pos_emb(query, key, cos[None], sin[None])
            mixed = F.scaled_dot_product_attention(query, key, value)
            hidden = hidden + attention.proj(mixed.transpose(1, 2).flatten(2))
            hidden = hidden + block.mlp(block.norm2(hidden))
        embeddings: torch.Tensor = visual.merger.mlp(visual.merger.ln_q(hidden))
        return embeddings

    def character_loss(self, seen: torch.Tensor, characters: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the characters in every cell."""
        logits = self.character_head(seen).unflatten(-1, (SLOTS, -1))
        return F.cross_entropy(logits.flatten(0, 2), characters.flatten())

    def place_loss(self, cells: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the row and the column of every cell. cells [B, L, hidden]"""
        numbers = torch.arange(cells.shape[1]).repeat(cells.shape[0])
        rows, columns = self.row_head(cells).flatten(0, 1), self.column_head(cells).flatten(0, 1)
        return F.cross_entropy(rows, numbers // CELLS_PER_ROW) + F.cross_entropy(columns, numbers % CELLS_PER_ROW)

    def forward(self, batch: Batch) -> Losses:
        """All losses of a batch."""
        seen = self.see(batch.patches)
        language: Any = self.policy.model.language_model
        num_images, num_prefix = batch.prefix_tokens.shape
        prefix = language.embed_tokens(batch.prefix_tokens)
        image = slice(batch.image_start, batch.image_start + seen.shape[1])
        prefix = torch.cat([prefix[:, : image.start], seen, prefix[:, image.stop :]], dim=1)
        # Linear layers work on real tokens only: those of the prefixes, then those of the queries. [B * P + N, hidden]
        hidden = torch.cat([prefix.flatten(0, 1), language.embed_tokens(batch.tokens)])
        positions = torch.cat([batch.prefix_positions.repeat(1, num_images), batch.positions], dim=1)
        cos, sin = (angle[0] for angle in language.rotary_emb(hidden, positions[:, None]))
        guides, places = [], hidden.new_zeros(())
        for number, layer in enumerate(language.layers):
            attention = layer.self_attn
            normed = layer.input_layernorm(hidden)
            query, key, value = (
                projection(normed).unflatten(-1, (-1, attention.head_dim))
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            query, key = apply_rotary_pos_emb(query, key, cos, sin)
            mixed, scores = _attend(query, key, value, batch, attention.scaling)
            here, after = _HERE_HEADS.get(number, 0), _NEXT_HEADS.get(number, 0)
            if here:
                guides.append(_guide_loss(scores[:, :here], batch.here_cells, batch))
            if after:
                guides.append(_guide_loss(scores[:, here : here + after], batch.cells, batch))
            hidden = hidden + attention.o_proj(mixed.flatten(1))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
            if number == _PLACES_AFTER:
                places = self.place_loss(hidden[: num_images * num_prefix].unflatten(0, (num_images, -1))[:, image])
        asked = batch.labels != IGNORED
        logits = self.policy.lm_head(language.norm(hidden[num_images * num_prefix :][asked]))
        return Losses(
            answer=F.cross_entropy(logits, batch.labels[asked]),
            guide=torch.stack(guides).mean(),
            characters=self.character_loss(seen, batch.characters),
            places=places,
        )


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, batch: Batch, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention of N flat tokens, where a query's tokens see the prefix of their image and themselves.

    Returns the mixed values [N, heads, head_dim] and the queries' masked scores [Q, heads, R, P + R].
    """
    num_images, num_prefix = batch.prefix_tokens.shape
    num_queries, length = batch.places.shape
    split = num_images * num_prefix

    def parts(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        prefix = flat[:split].unflatten(0, (num_images, num_prefix)).transpose(1, 2)  # [B, heads, P, head_dim]
        return prefix, flat[split:][batch.places].transpose(1, 2)  # and [Q, heads, R, head_dim]

    (prefix_query, own_query), (prefix_key, own_key), (prefix_value, own_value) = map(parts, (query, key, value))
    prefix_mixed = F.scaled_dot_product_attention(prefix_query, prefix_key, prefix_value, is_causal=True)
    every = num_queries // num_images
    keys = torch.cat([prefix_key.repeat_interleave(every, dim=0), own_key], dim=2)
    values = torch.cat([prefix_value.repeat_interleave(every, dim=0), own_value], dim=2)
    future = torch.full((length, num_prefix + length), float("-inf")).triu(num_prefix + 1)
    scores = own_query @ keys.transpose(2, 3) * scaling + future
    mixed = (scores.softmax(-1) @ values).transpose(1, 2)[batch.real]
    return torch.cat([prefix_mixed.transpose(1, 2).flatten(0, 1), mixed]), scores


def _guide_loss(scores: torch.Tensor, flat_cells: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross-entropy of attending to the given cell of each of N tokens. scores [Q, heads, R, P + R]"""
    cells = torch.full(batch.real.shape, NOWHERE).masked_scatter(batch.real, flat_cells)
    queries, places = (cells != NOWHERE).nonzero(as_tuple=True)
    chosen = scores.transpose(1, 2)[queries, places]  # [G, heads, P + R]
    targets = batch.image_start + cells[queries, places]
    return F.cross_entropy(chosen.flatten(0, 1), targets.repeat_interleave(chosen.shape[1]))
