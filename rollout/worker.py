"""The rollout worker: one vLLM engine in this process, which samples responses and receives new weights."""

import hashlib
import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from rollout.config import AnswerSampling, RolloutConfig, worker_environment
from rollout.prompts import num_prompt_tokens
from rollout.types import FinishReason, GenerationRequest, Rollout, RolloutGroup, WeightReceipt

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


class RolloutWorker:
    """Samples responses of one policy. Plain class: `cluster/` makes an actor of it.

    A batch's responses depend only on the requests and the weights: every `generate` starts with empty prefix and
    encoder caches. New weights are loaded between batches only; each rollout carries the version that sampled it.
    """

    def __init__(self, config: RolloutConfig, model: str) -> None:
        os.environ.update(worker_environment(config))  # before vllm is imported
        import torch

        torch.set_num_threads(config.num_threads)  # vLLM forbids it once its engine exists
        from transformers import AutoProcessor
        from vllm import LLM
        from vllm.platforms import current_platform

        self._config = config
        self._images: dict[str, bytes] = {}
        self._weight_version = 0
        self._broken_update: int | None = None
        self._digests: dict[str, str] = {}  # of the tensors that were last sent, by name
        self._processor = AutoProcessor.from_pretrained(model)
        is_cpu = current_platform.is_cpu()
        if is_cpu and not config.kv_cache_gib:
            raise ValueError("rollout.kv_cache_gib is 0, which only a GPU engine understands; set it, for example to 1")
        self._llm = LLM(model, **_engine_arguments(config, is_cpu=is_cpu))
        self._banned_token_ids = banned_ids(self._llm.model_config.hf_config)

    @property
    def weight_version(self) -> int:
        """Version of the weights in use; 0 is the checkpoint the worker was started from."""
        return self._weight_version

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

    def generate(
        self, requests: Sequence[GenerationRequest], images: Mapping[str, bytes] | None = None
    ) -> list[RolloutGroup]:
        """Sample all requests as one batch; the groups come in the order of the requests. `images` are added first.

        Raises ValueError, before anything is sampled, for an unknown image and for a prompt that does not leave room
        for `max_response_tokens`: prompts are never truncated. Raises RuntimeError for a request of other weights than
        those that are loaded.
        """
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
        outputs = self._llm.generate(prompts, [self._sampling(request) for request in requests], use_tqdm=False)
        return [self._group(request, output) for request, output in zip(requests, outputs, strict=True)]

    def update_weights(
        self,
        buckets: Sequence[np.ndarray],
        version: int,
        *,
        rest: Sequence[np.ndarray] = (),
        keep_rest: bool = False,
    ) -> WeightReceipt:
        """Replace all weights by those in the buckets (safetensors files, Hugging Face names) and reset the caches.

        A frozen vision tower may come apart from the others, in `rest`. With `keep_rest`, a part of the model of which
        nothing comes keeps what it was sent before. Names and digests are checked before the engine is touched: on a
        ValueError it still works with its old weights.
        """
        from rollout.weights import digest_of, read_bucket, sent_digests

        started = time.monotonic()
        buckets = [*buckets, *rest]
        if self._llm.llm_engine.has_unfinished_requests():
            raise RuntimeError(f"weight version {version} arrived while requests are in flight; update between batches")
        tensors = [tensor for bucket in buckets for tensor in read_bucket(bucket)]
        names = [tensor.name for tensor in tensors]
        kept = [name for name in self._digests if name not in set(names)] if keep_rest else []
        self._llm.collective_rpc("check_weight_names", args=(names, kept))
        verify = self._config.verify_digests
        digests = sent_digests(buckets) if verify else dict.fromkeys(names, "")
        self._broken_update = version
        self._llm.collective_rpc("load_buckets", args=(buckets,))
        self._reset_caches()
        self._broken_update = None
        self._digests = {name: self._digests[name] for name in kept} | digests
        self._weight_version = version
        return WeightReceipt(
            version=version,
            num_tensors=len(tensors),
            num_bytes=sum(tensor.bytes.size for tensor in tensors),
            digest=digest_of(self._digests) if verify else "",
            seconds=time.monotonic() - started,
        )

    def _reset_caches(self) -> None:
        """Forget keys, values and image embeddings; the processor's cache holds pixels, which no weights touch."""
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not reset its prefix cache: blocks are still in use")
        self._llm.llm_engine.reset_encoder_cache()

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
        limit = self._config.max_model_len - self._config.max_response_tokens
        if num_tokens > limit:
            raise ValueError(
                f"query {request.query_id}: the prompt has {num_tokens} tokens, images included, but "
                f"rollout.max_model_len {self._config.max_model_len} minus rollout.max_response_tokens "
                f"{self._config.max_response_tokens} leaves {limit}; raise max_model_len or use smaller images"
            )

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


def _engine_arguments(config: RolloutConfig, *, is_cpu: bool) -> dict[str, Any]:
    return {
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": max(config.max_num_batched_tokens, config.max_model_len),
        "enable_chunked_prefill": not is_cpu,  # on CPU a seeded request in a chunked prefill kills the engine
        "enable_prefix_caching": config.enable_prefix_caching,
        "block_size": config.block_size or None,
        "kv_cache_memory_bytes": int(config.kv_cache_gib * 2**30) or None,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "tensor_parallel_size": config.tensor_parallel_size,
        "enforce_eager": config.enforce_eager,
        "seed": config.seed,
        "use_tqdm_on_load": False,
        "limit_mm_per_prompt": {"image": config.max_images_per_prompt, "video": 0},
        "logprobs_mode": "processed_logprobs",
        "structured_outputs_config": {"backend": "guidance"},  # the others are slow, or blow up, on bounded texts
        "worker_extension_cls": "rollout.weights.WeightReceiver",
    }
