"""The policy: loading it with its processor, decoding images, and log-probabilities of packed rows."""

import io
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from learner.attention import SHARED_PROMPT
from learner.packing import ImagePixels, PackedRows

MAX_LOGITS_PER_CHUNK = 2**26  # tokens x vocabulary: 256 MiB in float32


def load_policy(model: str, dtype: torch.dtype, *, freeze_vision: bool, gradient_checkpointing: bool) -> Any:
    """The policy in `dtype`, in training mode without a cache. `model` is a Hugging Face folder or hub name."""
    attention = {"text_config": SHARED_PROMPT, "vision_config": "sdpa"}
    policy = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype, attn_implementation=attention)
    policy.config.use_cache = False
    policy.config.text_config.use_cache = False
    policy.train()
    if freeze_vision:
        policy.model.visual.requires_grad_(False)
    if gradient_checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return policy


def load_processor(model: str) -> Any:
    """The processor saved beside the checkpoint, so with the settings the engine reads as well."""
    return AutoProcessor.from_pretrained(model)


def decode_image(data: bytes, key: str) -> Image.Image:
    """RGB image, turned upright by its EXIF orientation, as the engine decodes it. Raises ValueError naming the key."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image {key}: {len(data)} bytes that do not decode as an image ({error})") from error


class ImageStore:
    """Encoded images by key, and their preprocessed pixels in a cache bounded by bytes (oldest use dropped first)."""

    def __init__(self, processor: Any, cache_bytes: int) -> None:
        self._image_processor = processor.image_processor
        self._encoded: dict[str, bytes] = {}
        self._pixels: OrderedDict[str, ImagePixels] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0

    def add(self, images: Mapping[str, bytes]) -> None:
        self._encoded.update(images)

    def pixels(self, key: str) -> ImagePixels:
        """Pixels of the image. Raises KeyError when it was never added, ValueError when it does not decode."""
        if key in self._pixels:
            self._pixels.move_to_end(key)
            return self._pixels[key]
        if key not in self._encoded:
            raise KeyError(f"image {key} is not known to the learner ({len(self._encoded)} are); call add_images first")
        made = self._image_processor(images=[decode_image(self._encoded[key], key)], return_tensors="pt")
        t, h, w = made["image_grid_thw"][0].tolist()
        pixels = ImagePixels(patches=made["pixel_values"], grid=(t, h, w))
        self._pixels[key] = pixels
        self._cached_bytes += pixels.patches.nbytes
        while self._cached_bytes > self._cache_bytes and len(self._pixels) > 1:
            _, dropped = self._pixels.popitem(last=False)
            self._cached_bytes -= dropped.patches.nbytes
        return pixels


class PolicyModule(nn.Module):  # type: ignore[misc]
    """The policy as the function the learner differentiates: packed rows -> log-probabilities of their tokens."""

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        self.policy: Any = policy

    def forward(
        self, rows: PackedRows, *, temperature: float, banned_token_ids: tuple[int, ...] = ()
    ) -> tuple[Tensor, Tensor]:
        """(logprobs [N] with gradient, entropies [N] without) of the processed distribution, in float32.

        Processed as the sampler does it: logits / temperature, banned tokens excluded, softmax. The [N, vocabulary]
        logits exist one chunk at a time only.
        """
        hidden = self.policy.model(
            input_ids=rows.input_ids,
            layout=rows.layout,
            position_ids=rows.position_ids,
            pixel_values=rows.pixel_values,
            image_grid_thw=rows.image_grid_thw,
            use_cache=False,
        ).last_hidden_state  # [B, T, D]
        hidden = hidden.flatten(0, 1)  # [B * T, D]
        if not len(rows.targets):  # padding rows only: every module runs, the gradient is zero
            logprobs, entropies = self._token_logprobs(hidden[:1], rows.input_ids[0, :1], temperature, ())
            return logprobs[:0], entropies[:0]
        hidden = hidden[rows.predicting]  # [N, D]
        chunk = max(1, MAX_LOGITS_PER_CHUNK // self.policy.config.text_config.vocab_size)
        if len(hidden) <= chunk:
            return self._token_logprobs(hidden, rows.targets, temperature, banned_token_ids)
        parts = [
            checkpoint(self._token_logprobs, h, t, temperature, banned_token_ids, use_reentrant=False)
            for h, t in zip(hidden.split(chunk), rows.targets.split(chunk), strict=True)
        ]
        return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropies for _, entropies in parts])

    def _token_logprobs(
        self, hidden: Tensor, targets: Tensor, temperature: float, banned: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        logits = self.policy.lm_head(hidden).float() / temperature  # [N, V]
        if banned:
            logits = logits.index_fill(1, torch.tensor(banned, device=logits.device), float("-inf"))
        logprobs = logits.log_softmax(dim=-1)
        with torch.no_grad():
            entropies = torch.special.entr(logprobs.exp()).sum(dim=-1)
        return logprobs.gather(1, targets[:, None])[:, 0], entropies
