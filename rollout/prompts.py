"""What a prompt becomes once its images are expanded."""

from collections.abc import Sequence
from typing import Any


def prompt_token_ids(processor: Any, prompt: str, image_sizes: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The tokens [P] of a rendered prompt with its image placeholders expanded, as the engine expands them; sizes are
    (height, width) in pixels.

    Raises ValueError if the prompt does not have one placeholder an image.
    """
    token_ids = processor.tokenizer(prompt)["input_ids"]
    placeholder = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    num_placeholders = token_ids.count(placeholder)
    if num_placeholders != len(image_sizes):
        raise ValueError(f"the prompt has {num_placeholders} image placeholders for {len(image_sizes)} images")
    expansions = iter(processor._get_num_multimodal_tokens(image_sizes=list(image_sizes))["num_image_tokens"])
    expanded: list[int] = []
    for token_id in token_ids:
        expanded += [token_id] * (int(next(expansions)) if token_id == placeholder else 1)
    return tuple(expanded)


def num_prompt_tokens(processor: Any, prompt: str, image_sizes: Sequence[tuple[int, int]]) -> int:
    """How many tokens `prompt_token_ids` gives."""
    return len(prompt_token_ids(processor, prompt, image_sizes))
