"""Whether the prompts of documents fit a policy: what training refuses before it starts, and `medvie data check`."""

from typing import Any

from medvie_rl.data.prompts import render_chat
from medvie_rl.data.store import Document
from rollout.prompts import num_prompt_tokens


def document_prompt_tokens(processor: Any, document: Document, user_text: str) -> int:
    """Tokens of a prompt that asks `user_text` about all pages of a document, its images expanded."""
    prompt = render_chat(processor, user_text, num_images=len(document.image_keys))
    sizes = [(height, width) for width, height in document.image_sizes]
    return num_prompt_tokens(processor, prompt, sizes)
