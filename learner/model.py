"""The policy: loading it with its processor, decoding images, and log-probabilities of packed rows."""

import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from learner.attention import SHARED_PROMPT
from learner.config import LearnerConfig
from learner.families import check_family, encoder_output, joined_features, projectors
from learner.flex_attention import SHARED_PROMPT_FLEX
from learner.layout import Layout
from learner.lora import attach_lora
from learner.packing import ImagePixels, PackedRows

MAX_LOGITS_PER_CHUNK = 2**26  # tokens x vocabulary: 256 MiB in float32


def load_policy(model: str, config: LearnerConfig, *, lora: bool = True) -> Any:
    """The policy in training mode without a cache, frozen where `config` says so and with its adapters, if any.

    `model` is a Hugging Face folder or hub name. Raises ValueError for what this machine or policy cannot do.
    """
    check_family(AutoConfig.from_pretrained(model).model_type)
    attention = {"text_config": attention_over_rows(config), "vision_config": "sdpa"}
    dtype = getattr(torch, config.dtype)
    policy = AutoModelForImageTextToText.from_pretrained(
        model, dtype=dtype, attn_implementation=attention, use_safetensors=True
    )
    policy.config.use_cache = False
    policy.config.text_config.use_cache = False
    policy.train()
    freeze(policy, config)
    if config.gradient_checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if lora and config.lora.rank:
        policy.lora_summary = attach_lora(policy, config.lora)
    return policy


def freeze(policy: Any, config: LearnerConfig) -> None:
    """Freeze vision tower and projectors as `config` says."""
    visual = policy.model.visual
    visual.requires_grad_(not config.freeze_vision)
    for projector in projectors(visual):
        projector.requires_grad_(not config.freezes_projector)


def attention_over_rows(config: LearnerConfig) -> str:
    """The text part's attention by transformers' name; raises ValueError where there is none to train with."""
    on_gpu = torch.cuda.is_available()
    if config.attention == "flex" and not on_gpu:
        raise ValueError("learner.attention: flex has no backward pass without a GPU; set it to auto or split")
    return SHARED_PROMPT if config.attention == "split" or not on_gpu else SHARED_PROMPT_FLEX


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
        """Pixels of the image, kept. Raises KeyError when it was never added, ValueError when it does not decode."""
        if key in self._pixels:
            self._pixels.move_to_end(key)
            return self._pixels[key]
        pixels = self.preprocess(key)
        self._pixels[key] = pixels
        self._cached_bytes += pixels.patches.nbytes
        while self._cached_bytes > self._cache_bytes and len(self._pixels) > 1:
            _, dropped = self._pixels.popitem(last=False)
            self._cached_bytes -= dropped.patches.nbytes
        return pixels

    def preprocess(self, key: str) -> ImagePixels:
        """The same, not kept."""
        if key not in self._encoded:
            raise KeyError(f"image {key} is not known to the learner ({len(self._encoded)} are); call add_images first")
        made = self._image_processor(images=[decode_image(self._encoded[key], key)], return_tensors="pt")
        t, h, w = made["image_grid_thw"][0].tolist()
        return ImagePixels(patches=made["pixel_values"], grid=(t, h, w))


class PolicyModule(nn.Module):  # type: ignore[misc]
    """The policy as the function the learner differentiates: packed rows -> log-probabilities of their tokens."""

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        self.policy: Any = policy

    def forward(
        self,
        rows: PackedRows,
        *,
        temperature: float,
        banned_token_ids: tuple[int, ...] = (),
        entropy_gradient: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """(logprobs [N] with gradient, entropies [N] with one if asked for) of the processed distribution, in float32.

        Processed as the sampler does it: logits / temperature, banned tokens excluded, softmax. The [N, vocabulary]
        logits exist one chunk at a time only.
        """
        if rows.image_features is None:
            images = {"pixel_values": rows.pixel_values, "image_grid_thw": rows.image_grid_thw}
        else:
            encoded = encoder_output(rows.image_features, self.policy.config.text_config.hidden_size)
            images = {"mm_encoder_outputs": {"image": encoded}}
        input_ids, position_ids, layout, predicting = without_padding(rows)
        with self._last_layer_at(predicting.unique(), input_ids.shape[1]):
            hidden = self.policy.model(
                input_ids=input_ids, layout=layout, position_ids=position_ids, use_cache=False, **images
            ).last_hidden_state[0]  # [M, D]
        # N is 0 where there are padding rows only: every module runs all the same. Plain indexing would add up the
        # gradients of a token that predicts several in the order in which threads come.
        hidden = hidden.index_select(0, predicting)  # [N, D]
        settings = (temperature, banned_token_ids, entropy_gradient)
        num_chunks = self._num_chunks(len(hidden))
        if num_chunks == 1:
            return self._token_logprobs(hidden, rows.targets, *settings)
        parts = [
            checkpoint(self._token_logprobs, h, t, *settings, use_reentrant=False)
            for h, t in zip(hidden.tensor_split(num_chunks), rows.targets.tensor_split(num_chunks), strict=True)
        ]
        return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropies for _, entropies in parts])

    @contextmanager
    def _last_layer_at(self, tokens: Tensor, num_tokens: int) -> Iterator[None]:
        """Inside, what of the last layer serves a token alone is computed at these tokens only and 0 at the others,
        whose hidden states nobody reads: most of a prompt's."""
        layer = self.policy.model.language_model.layers[-1]
        hooks = []
        if not self.policy.is_gradient_checkpointing:  # then the layer would run again outside
            for module in (layer.self_attn.q_proj, layer.self_attn.o_proj, layer.mlp):
                hooks += _compute_at(module, tokens, num_tokens)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _num_chunks(self, num_tokens: int) -> int:
        """In how many parts the logits are computed. Under ZeRO-3 each gathers the head from all ranks, so that of the
        rank with the most tokens counts."""
        head = self.policy.lm_head.weight
        chunk = max(1, MAX_LOGITS_PER_CHUNK // self.policy.config.text_config.vocab_size)
        count: int = max(1, -(-num_tokens // chunk))
        if not hasattr(head, "ds_id") or torch.distributed.get_world_size() == 1:
            return count
        most = torch.tensor(count, device=self.policy.device)
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
        agreed: int = most.item()
        return agreed

    def encode(self, image: ImagePixels) -> Tensor:
        """Features [num_image_tokens, (1 + K) * D] (see learner.families), without gradient, of one image by the vision
        tower and projectors. Collective under ZeRO-3."""
        device = self.policy.device
        grid = torch.tensor([image.grid], device=device)
        with torch.no_grad():
            return joined_features(self.policy.get_image_features(image.patches.to(device), grid))

    def _token_logprobs(
        self, hidden: Tensor, targets: Tensor, temperature: float, banned: tuple[int, ...], entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        logits = self.policy.lm_head(hidden).float() / temperature  # [N, V]
        if banned:
            # The lowest finite number, not -inf: the probability is 0 just so, and 0 times it is no NaN below.
            lowest = torch.finfo(logits.dtype).min
            logits = logits.index_fill(1, torch.tensor(banned, device=logits.device), lowest)
        logprobs = logits.log_softmax(dim=-1)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropies = -(logprobs.exp() * logprobs).sum(dim=-1)
        return logprobs.gather(1, targets[:, None])[:, 0], entropies


def _compute_at(module: nn.Module, tokens: Tensor, num_tokens: int) -> list[RemovableHandle]:
    """Hooks that give a module, which maps each of [1, num_tokens, D] by itself, these tokens only; 0 at the others."""

    def select(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].index_select(1, tokens),)

    def spread(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return output.new_zeros(1, num_tokens, output.shape[2]).index_copy(1, tokens, output)

    return [module.register_forward_pre_hook(select), module.register_forward_hook(spread)]


def without_padding(rows: PackedRows) -> tuple[Tensor, Tensor, Layout, Tensor]:
    """The M tokens of the rows behind one another: (input ids [1, M], position ids [3, 1, M], the layout without
    padding, which of the M tokens predict [N])."""
    length = rows.input_ids.shape[1]
    real = torch.cat(
        [torch.arange(number * length, number * length + row.num_tokens) for number, row in enumerate(rows.layout)]
    ).to(rows.input_ids.device)  # [M] of [B * T]
    layout = tuple(row._replace(padding=0) for row in rows.layout)
    return (
        rows.input_ids.flatten()[real][None],
        rows.position_ids.flatten(1)[:, real][:, None],
        layout,
        torch.searchsorted(real, rows.predicting),
    )
