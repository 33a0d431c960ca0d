"""The rollout worker: it samples responses from its vLLM engine."""

import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rollout.config import AdapterSlot, AnswerSampling, RolloutConfig
from rollout.engine import Engine
from rollout.prompts import num_prompt_tokens
from rollout.types import FinishReason, GenerationRequest, Rollout, RolloutGroup

if TYPE_CHECKING:
    from PIL.Image import Image
    from vllm import RequestOutput, SamplingParams

_BANNED_ID_NAMES = (
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "vision_token_id",
)
_SEED_RANGE = 2**63 - 2**16  # vLLM samples trace i from seed + i, which must stay a signed 64-bit integer


class RolloutWorker(Engine):
    """Samples responses of one policy. Plain class: `cluster/` makes an actor of it.

    A batch's responses depend only on the requests and the weights: every `generate` starts with empty prefix and
    encoder caches. New weights are loaded between batches only; each rollout carries the version that sampled it.
    """

    def __init__(self, config: RolloutConfig, model: str, adapter: AdapterSlot | None = None) -> None:
        super().__init__(config, model, adapter)
        from transformers import AutoProcessor

        self._images: dict[str, bytes] = {}
        self._processor = AutoProcessor.from_pretrained(model)
        self._banned_token_ids = banned_ids(self._llm.model_config.hf_config)

    def banned_token_ids(self) -> tuple[int, ...]:
        """Ids that are never sampled (image and video placeholders and their markers), ascending.

        Their logits are minus infinity before `logprobs` are normalised: the learner must do the same.
        """
        return self._banned_token_ids

    def add_images(self, images: Mapping[str, bytes]) -> None:
        """Keep encoded images by the sha256 of their bytes; raises ValueError for one that cannot be decoded."""
        for key, data in images.items():
            if key in self._images:
                continue
            if hashlib.sha256(data).hexdigest() != key:
                raise ValueError(f"image {key}: the key must be the sha256 of its {len(data)} bytes")
            decode_image(key, data)
            self._images[key] = data

    def forget_images(self) -> None:
        """Give the room of all images back."""
        self._images.clear()

    def generate(
        self, requests: Sequence[GenerationRequest], images: Mapping[str, bytes] | None = None
    ) -> list[RolloutGroup]:
        """Sample all requests as one batch; the groups come in the order of the requests. `images` are added first.

        Raises ValueError, before anything is sampled, for an unknown image and for a prompt that does not leave room
        for `max_response_tokens`: prompts are never truncated. Raises RuntimeError for a request of other weights than
        those that are loaded.
        """
        started = time.monotonic()
        self.add_images(images or {})
        if self._broken_update is not None:
            raise RuntimeError(f"loading weight version {self._broken_update} failed half-way; restart this worker")
        for request in requests:
            if request.weight_version != self._weight_version:
                raise RuntimeError(
                    f"query {request.query_id} is for weight version {request.weight_version}, this worker holds "
                    f"{self._weight_version}"
                )
        if not requests:
            return []
        decoded = {key: self._decoded(key, request) for request in requests for key in request.image_keys}
        for request in requests:
            self._check_prompt(request, decoded)
        prompts = [
            {
                "prompt": request.prompt,
                "multi_modal_data": {"image": [decoded[key] for key in request.image_keys]},
                "multi_modal_uuids": {"image": list(request.image_keys)},
            }
            if request.image_keys
            else {"prompt": request.prompt}
            for request in requests
        ]
        self._reset_caches()
        sampling = [self._sampling(request) for request in requests]
        outputs = self._llm.generate(prompts, sampling, use_tqdm=False, lora_request=self._adapter)
        groups = [self._group(request, output) for request, output in zip(requests, outputs, strict=True)]
        seconds = time.monotonic() - started
        return [replace(group, seconds=seconds) for group in groups]

    def _decoded(self, key: str, request: GenerationRequest) -> "Image":
        if key not in self._images:
            raise ValueError(f"query {request.query_id}: image {key} is not here; send it with add_images first")
        return decode_image(key, self._images[key])

    def _check_prompt(self, request: GenerationRequest, images: "Mapping[str, Image]") -> None:
        sizes = [(images[key].height, images[key].width) for key in request.image_keys]
        try:
            num_tokens = num_prompt_tokens(self._processor, request.prompt, sizes)
        except ValueError as error:
            raise ValueError(f"query {request.query_id}: {error}") from error
        if problem := self._config.too_long(num_tokens):
            raise ValueError(f"query {request.query_id}: {problem}; raise max_model_len or use smaller images")

    def _sampling(self, request: GenerationRequest) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        of_answer = request.answer or AnswerSampling(temperature=self._config.temperature)
        return SamplingParams(
            n=request.num_traces,
            **asdict(of_answer),
            seed=engine_seed(request.seed) if of_answer.temperature else None,
            structured_outputs=StructuredOutputsParams(grammar=request.grammar) if request.grammar else None,
            max_tokens=self._config.max_response_tokens,
            logprobs=0,  # of the sampled token only
            flat_logprobs=True,
            logit_bias=dict.fromkeys(self._banned_token_ids, float("-inf")),
            detokenize=False,  # vLLM's incremental one drops what a cut-off response ends with; see _text
        )

    def _group(self, request: GenerationRequest, output: "RequestOutput") -> RolloutGroup:
        rollouts = []
        for completion in sorted(output.outputs, key=lambda completion: completion.index):
            token_ids, logprobs = tuple(completion.token_ids), tuple(completion.logprobs.logprobs)
            if len(token_ids) != len(logprobs) or not token_ids:
                raise RuntimeError(f"query {request.query_id}: {len(token_ids)} tokens but {len(logprobs)} logprobs")
            rollouts.append(
                Rollout(
                    text=self._text(token_ids, completion.finish_reason),
                    token_ids=token_ids,
                    logprobs=logprobs,
                    finish_reason=FinishReason(completion.finish_reason),
                    weight_version=self._weight_version,
                )
            )
        return RolloutGroup(
            query_id=request.query_id, prompt_ids=tuple(output.prompt_token_ids), rollouts=tuple(rollouts)
        )

    def _text(self, token_ids: tuple[int, ...], finish_reason: str | None) -> str:
        """The response without its end-of-turn token. Special tokens stay: <think> may be one of them."""
        shown = token_ids[:-1] if finish_reason == FinishReason.STOP else token_ids
        text: str = self._processor.tokenizer.decode(
            shown, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text


def engine_seed(seed: int) -> int:
    """The engine's seed of a request's first trace; trace i has this plus i, which still is a signed 64-bit integer."""
    return seed % _SEED_RANGE


def banned_ids(hf_config: Any) -> tuple[int, ...]:
    """Ids that a policy of this Hugging Face configuration must never be let sample, ascending."""
    ids = {getattr(hf_config, name, None) for name in _BANNED_ID_NAMES}
    return tuple(sorted(token_id for token_id in ids if token_id is not None))


def decode_image(key: str, data: bytes) -> "Image":
    """The image as RGB, turned as its EXIF orientation says; raises ValueError naming the key."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image {key} ({len(data)} bytes) cannot be decoded: {error}") from error
