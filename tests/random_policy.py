"""Policies with random weights as folders that engines and learner load, with the nano policy's tokenizer."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLProcessor,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from medvie_rl.nano.tokenizer import CHAT_TEMPLATE, END_OF_TURN, IMAGE, PAD, VIDEO

NANO = Path(__file__).parents[1] / "medvie_rl" / "nano" / "policy"
PROCESSORS = {
    "qwen2_5_vl": (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor),
    "qwen3_vl": (Qwen3VLProcessor, Qwen3VLVideoProcessor),
}


def policy_config(family: str, text: dict[str, Any], vision: dict[str, Any], *, tied: bool) -> PreTrainedConfig:
    """The configuration of a policy with these parts and the tokens of the nano policy; `text` may name a larger
    vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    token_id = tokenizer.convert_tokens_to_ids
    ends = {"bos_token_id": None, "eos_token_id": token_id(END_OF_TURN), "pad_token_id": token_id(PAD)}
    return AutoConfig.for_model(
        family,
        text_config={"vocab_size": len(tokenizer), **ends, **text},
        vision_config=vision,
        image_token_id=token_id(IMAGE),
        video_token_id=token_id(VIDEO),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=tied,
    )


def save_policy(policy: PreTrainedModel, folder: Path, *, min_pixels: int, max_pixels: int) -> Path:
    """Write the policy with its processor, which makes images of so many pixels."""
    text, vision = policy.config.text_config, policy.config.vision_config
    policy.generation_config = GenerationConfig(
        eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id, do_sample=False
    )
    policy.save_pretrained(folder, max_shard_size="5GB")
    settings = {
        "patch_size": vision.patch_size,
        "merge_size": vision.spatial_merge_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "size": {"shortest_edge": min_pixels, "longest_edge": max_pixels},
    }
    processor, video_processor = PROCESSORS[policy.config.model_type]
    made = processor(
        image_processor=Qwen2VLImageProcessor(**settings),
        tokenizer=AutoTokenizer.from_pretrained(NANO),
        video_processor=video_processor(**settings),
        chat_template=CHAT_TEMPLATE,
    )
    made.save_pretrained(folder)
    return folder


def save_qwen3_vl(folder: Path, *, seed: int, tied: bool = True) -> Path:
    """Write a Qwen3-VL of 0.5M float32 weights drawn by the seed, so large that no answer is certain; it sees slips in
    patches and merges of the real one's size."""
    config = policy_config(
        "qwen3_vl",
        text={
            "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1000.0, "mrope_section": [6, 5, 5], "mrope_interleaved": True,
            },
        },
        vision={
            "depth": 3, "hidden_size": 64, "intermediate_size": 160, "num_heads": 2, "patch_size": 16,
            "spatial_merge_size": 2, "out_hidden_size": 64, "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        tied=tied,
    )  # fmt: skip
    policy = Qwen3VLForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in policy.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        shift = 1.0 if parameter.ndim == 1 and "norm" in name and name.endswith("weight") else 0.0
        parameter.data = shift + noise * (0.2 if parameter.ndim == 1 or "embed" in name else 0.12)
    return save_policy(policy, folder, min_pixels=4 * 32 * 32, max_pixels=4 * 208 * 96)
