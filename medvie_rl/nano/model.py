"""The nano policy's architecture: Qwen2.5-VL with about three million parameters, and its image processor."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from medvie_rl.nano.tokenizer import CHAT_TEMPLATE, END_OF_TURN, IMAGE, PAD, VIDEO

PATCH_SIZE = 16
MAX_LENGTH = 1024
PAPER_MEAN, PAPER_STD = 0.9, 0.3  # pixels from 0 to 1 become small on paper and strongly negative on ink
_HIDDEN = 192
_HEADS = 6
_INITIAL_STD = 0.06  # wide enough for 192 channels; with the usual 0.02 learning to see takes several times longer
_ROTARY = [2, 3, 11]  # (time, row, column): most and faster angles for the column, by which text is followed
_INITIAL_PATCH_STD = 0.02  # of the patch embedding, whose six input planes are equal and add up
# Pixels of an image: a slip is 208×96, anything larger is scaled down to four times that.
_SMALLEST_IMAGE = 4 * PATCH_SIZE * PATCH_SIZE
_LARGEST_IMAGE = 4 * 208 * 96


def build_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Two vision blocks with full attention over 16×16 patches (none merged) and four tied text layers."""
    token_id = tokenizer.convert_tokens_to_ids
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": _HIDDEN,
            "intermediate_size": 2 * _HIDDEN + _HIDDEN // 2,
            "num_hidden_layers": 4,
            "num_attention_heads": _HEADS,
            "num_key_value_heads": _HEADS,
            "max_position_embeddings": MAX_LENGTH,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": _ROTARY},
            "initializer_range": _INITIAL_STD,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": token_id(END_OF_TURN),
            "pad_token_id": token_id(PAD),
        },
        vision_config={
            "depth": 2,
            "hidden_size": _HIDDEN,
            "intermediate_size": 2 * _HIDDEN + _HIDDEN // 2,
            "num_heads": _HEADS,
            "patch_size": PATCH_SIZE,
            "spatial_merge_size": 1,
            "temporal_patch_size": 2,
            "window_size": 7 * PATCH_SIZE,
            "out_hidden_size": _HIDDEN,
            "fullatt_block_indexes": [0, 1],
            "initializer_range": _INITIAL_STD,
        },
        image_token_id=token_id(IMAGE),
        video_token_id=token_id(VIDEO),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=True,
        eos_token_id=token_id(END_OF_TURN),
        pad_token_id=token_id(PAD),
    )


def build_policy(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A policy with random float32 weights, the same for the same seed."""
    torch.manual_seed(seed)
    policy = Qwen2_5_VLForConditionalGeneration(build_config(tokenizer)).float()
    torch.nn.init.normal_(policy.model.visual.patch_embed.proj.weight, std=_INITIAL_PATCH_STD)
    end, pad = tokenizer.convert_tokens_to_ids([END_OF_TURN, PAD])
    policy.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad, do_sample=False)
    return policy


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    """The processor with the model's patch and merge size."""
    sizes: dict[str, Any] = {
        "patch_size": PATCH_SIZE,
        "merge_size": 1,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": _SMALLEST_IMAGE, "longest_edge": _LARGEST_IMAGE},
        "image_mean": [PAPER_MEAN] * 3,
        "image_std": [PAPER_STD] * 3,
    }
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**sizes),
        chat_template=CHAT_TEMPLATE,
    )


def save_policy(
    policy: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, folder: Path, *, dtype: torch.dtype
) -> None:
    """Write weights, tokenizer, processor and chat template in plain Hugging Face format."""
    folder.mkdir(parents=True, exist_ok=True)
    policy.to(dtype).save_pretrained(folder)
    processor.save_pretrained(folder)
