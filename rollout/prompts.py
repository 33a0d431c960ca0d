"""How long a prompt becomes once its images are expanded."""

from collections.abc import Sequence
from typing import Any


def num_prompt_tokens(processor: Any, prompt: str, image_sizes: Sequence[tuple[int, int]]) -> int:
    """Tokens of a rendered prompt with its image placeholders expanded; sizes are (height, width) in pixels.

    Raises ValueError if the prompt does not have one placeholder an image.
    """
    token_ids = processor.tokenizer(prompt)["input_ids"]
    num_placeholders = token_ids.count(processor.tokenizer.convert_tokens_to_ids(processor.image_token))
    if num_placeholders != len(image_sizes):
        raise ValueError(f"the prompt has {num_placeholders} image placeholders for {len(image_sizes)} images")
    expanded = processor._get_num_multimodal_tokens(image_sizes=list(image_sizes))["num_image_tokens"]
    return int(len(token_ids) - num_placeholders + sum(expanded))
