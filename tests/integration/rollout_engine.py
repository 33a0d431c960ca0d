"""What the rollout tests share: engines in processes of their own, transformers beside them, checkpoints, requests."""

import gc
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medvie_rl.data.prompts import load_prompt_template, render_chat
from medvie_rl.data.store import Document, open_split
from rewards.schema import load_schema
from rollout.config import AdapterSlot, AnswerSampling, RolloutConfig, worker_environment
from rollout.types import GenerationRequest, RolloutGroup

ROOT = Path(__file__).resolve().parents[2]
POLICY = Path(os.environ.get("MEDVIE_NANO", ROOT / "medvie_rl" / "nano" / "policy"))
NUM_DOCUMENTS = int(os.environ.get("MEDVIE_PARITY_DOCUMENTS", "50"))  # whose answers are compared with transformers'


class EngineProcess:
    """A RolloutWorker in a fresh process, as an actor would have it; every method call is forwarded.

    `plant(fault)` switches a part of the weight update off inside the worker; `plant(None)` repairs it.
    `restart(model, adapter)` starts another RolloutWorker in its place: sooner, the libraries are there.
    """

    def __init__(self, config: RolloutConfig, model: Path, adapter: AdapterSlot | None = None) -> None:
        os.environ.update(worker_environment(config))  # inherited by the child before its libraries load
        self._pipe, child_end = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(child_end, config, str(model), adapter), daemon=True
        )
        self._process.start()
        child_end.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **settings: self._call(name, *args, **settings)

    def _call(self, name: str, *args: Any, **settings: Any) -> Any:
        self._pipe.send((name, args, settings))
        succeeded, answer = self._pipe.recv()
        if not succeeded:
            raise answer
        return answer

    def close(self) -> None:
        """End the process; the engine dies with it."""
        self._pipe.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Any, config: RolloutConfig, model: str, adapter: AdapterSlot | None) -> None:
    from rollout.worker import RolloutWorker

    worker = RolloutWorker(config, model, adapter)
    commands = _commands(worker)
    while True:
        try:
            name, args, settings = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            if name == "restart":
                del worker, commands
                gc.collect()  # an engine that ends after the next one has begun takes what they share with it
                worker = RolloutWorker(config, *args)
                commands = _commands(worker)
                answer = None
            else:
                answer = _answer(worker, commands, name, args, settings)
            pipe.send((True, answer))
        except Exception as error:  # everything is reported to the test, which raises it
            traceback.print_exc()
            pipe.send((False, error))


def _answer(worker: Any, commands: Mapping[str, Callable[..., Any]], name: str, args: Any, settings: Any) -> Any:
    attribute = commands[name] if name in commands else getattr(worker, name)
    return attribute(*args, **settings) if callable(attribute) else attribute


def _commands(worker: Any) -> dict[str, Callable[..., Any]]:
    return {
        "plant": _Faults(worker).plant,
        "generate": lambda asked: worker.generate([replace(it, weight_version=worker.weight_version) for it in asked]),
        "generate_as_asked": worker.generate,
        "generate_and_count": partial(_generate_and_count, worker),
        "generate_while_updating": partial(_generate_while_updating, worker),
    }


class _Faults:
    """Parts of an update that can be switched off. The caches are then not reset before the next batch either, which
    would hide it."""

    def __init__(self, worker: Any) -> None:
        import rollout.weights

        engine = worker._llm.llm_engine
        self._sound = {
            "prefix cache": (worker._llm, "reset_prefix_cache", worker._llm.reset_prefix_cache, lambda: True),
            "encoder cache": (engine, "reset_encoder_cache", engine.reset_encoder_cache, lambda: None),
            "tied head": (rollout.weights, "_tied_heads", rollout.weights._tied_heads, lambda model: []),
            "adapter": (engine, "add_lora", engine.add_lora, lambda request: True),
        }

    def plant(self, fault: str | None) -> None:
        for name, (owner, attribute, sound, broken) in self._sound.items():
            setattr(owner, attribute, broken if name == fault else sound)


class Sharing(NamedTuple):
    """What the traces of a batch shared, by vLLM's own statistics and by the calls of the vision tower."""

    num_looked_up: int  # prompt tokens that were looked up in the prefix cache
    num_found: int  # of these
    num_images: int  # that went through the vision tower


def _generate_and_count(worker: Any, requests: Sequence[GenerationRequest]) -> tuple[list[RolloutGroup], Sharing]:
    from vllm.v1.metrics.stats import PrefixCacheStats

    caches = worker._llm.llm_engine.engine_core.engine_core.scheduler.kv_cache_manager
    caches.log_stats, caches.prefix_cache_stats = True, PrefixCacheStats()
    images: list[int] = []

    def note(module: Any, inputs: Any, settings: dict[str, Any], output: Any) -> None:
        grid = settings["grid_thw"] if "grid_thw" in settings else inputs[1]  # [I, 3]
        images.append(len(grid))

    (hook,) = worker._llm.apply_model(lambda model: model.visual.register_forward_hook(note, with_kwargs=True))
    groups = worker.generate(requests)
    hook.remove()
    found = caches.prefix_cache_stats
    return groups, Sharing(found.queries, found.hits, sum(images))


def _generate_while_updating(worker: Any, request: GenerationRequest, buckets: Sequence[np.ndarray]) -> str:
    """Try an update while a request waits in the engine; returns the error's text."""
    images = [worker._decoded(key, request) for key in request.image_keys]
    prompt = {"prompt": request.prompt, "multi_modal_data": {"image": images}}
    worker._llm.enqueue(prompt, worker._sampling(request), use_tqdm=False)
    try:
        worker.update_weights(buckets, 99)
    except RuntimeError as error:
        return str(error)
    finally:
        worker._llm.wait_for_completion(use_tqdm=False)
    return ""


class TransformersPolicy:
    """A policy in transformers that is asked what an engine was asked."""

    def __init__(self, model: Any, processor: Any, images: Mapping[str, bytes], banned: Sequence[int]) -> None:
        self.model, self.processor, self.images, self.banned = model, processor, images, list(banned)

    def inputs(self, request: GenerationRequest) -> Any:
        """Prompt ids and pixels, by the processor."""
        from rollout.worker import decode_image

        images = [decode_image(key, self.images[key]) for key in request.image_keys]
        return self.processor(text=[request.prompt], images=images, return_tensors="pt")

    def distributions(self, request: GenerationRequest, token_ids: Sequence[int], temperature: float) -> Any:
        """Logprobs of all tokens at every place of the response, banned ids removed. [R, V]"""
        import torch

        inputs = self.inputs(request)
        response = torch.tensor([token_ids])  # [1, R]
        num_prompt = inputs["input_ids"].shape[1]
        for name, continued in (("input_ids", response), ("attention_mask", torch.ones_like(response)),
                                ("mm_token_type_ids", torch.zeros_like(response))):  # fmt: skip
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], continued], dim=1)
        with torch.no_grad():
            logits = self.model(**inputs).logits[0, num_prompt - 1 : -1] / temperature  # [R, V]
        logits[:, self.banned] = float("-inf")
        return logits.log_softmax(-1)

    def logprobs(self, request: GenerationRequest, token_ids: Sequence[int], temperature: float) -> Any:
        """Of the response's tokens. [R]"""
        import torch

        return self.distributions(request, token_ids, temperature).gather(1, torch.tensor(token_ids)[:, None])[:, 0]


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Name -> tensor, fp32, of a single-file checkpoint."""
    from safetensors.torch import load_file

    return {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}


def save_changed_checkpoint(source: Path, target: Path, seed: int) -> None:
    """Copy a checkpoint and draw every tensor anew, so large that no answer is certain and none is alike."""
    import torch
    from safetensors.torch import save_file

    shutil.copytree(source, target)
    generator = torch.Generator().manual_seed(seed)
    changed = {}
    for name, tensor in load_checkpoint(source).items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            changed[name] = noise * (0.2 if "embed_tokens" in name else 0.1)
        else:
            changed[name] = noise * 0.2 + (1.0 if name.endswith("norm.weight") or "norm" in name else 0.0)
    save_file(changed, target / "model.safetensors", metadata={"format": "pt"})


def save_untied_checkpoint(source: Path, target: Path) -> None:
    """Copy a checkpoint with a tied output head, and give it one of its own, a little off the embedding."""
    import torch
    from safetensors.torch import save_file

    shutil.copytree(source, target)
    tensors = load_checkpoint(source)
    (embedding,) = [tensor for name, tensor in tensors.items() if name.endswith("embed_tokens.weight")]
    noise = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(4))
    tensors["lm_head.weight"] = embedding + 0.1 * embedding.std() * noise
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((target / "config.json").read_text(encoding="utf-8"))
    for part in (settings, settings["text_config"]):
        part["tie_word_embeddings"] = False
    (target / "config.json").write_text(json.dumps(settings), encoding="utf-8")


def make_buckets(tensors: Mapping[str, Any]) -> list[np.ndarray]:
    """The wire format: one read-only safetensors array per layer, digests in the metadata."""
    import torch
    from safetensors.torch import save

    def layer(name: str) -> str:
        match = re.match(r".*?\.\d+\.", name)
        return match.group(0) if match else name.split(".")[0]

    buckets = []
    for _, names in groupby(sorted(tensors, key=layer), key=layer):
        part = {name: tensors[name].contiguous() for name in names}
        digests = {
            f"sha256:{name}": hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy()).hexdigest()
            for name, tensor in part.items()
        }
        buckets.append(np.frombuffer(save(part, metadata=digests), dtype=np.uint8))
    return buckets


@cache
def slips() -> dict[str, tuple[Document, bytes]]:
    """The shipped test documents with their images, by the sha256 of the image."""
    split = open_split(ROOT / "medvie_rl" / "nano" / "slips", "test")
    return {key: (document, image) for document in split for key, image in split.images(document).items()}


def slip_images(count: int) -> dict[str, bytes]:
    """The images of the first `count` test documents by their sha256."""
    return {key: image for key, (_, image) in islice(slips().items(), count)}


def make_requests(processor: Any, keys: Iterable[str], *, num_traces: int, greedy: bool) -> list[GenerationRequest]:
    """One request per image for all keys of its schema, with and without reasoning in turns."""
    template = load_prompt_template(ROOT / "conf" / "prompts" / "nano.yaml")
    requests = []
    for index, key in enumerate(keys):
        schema = load_schema(ROOT / "conf" / "schemas" / f"{slips()[key][0].schema}.yaml")
        text = template.user_text(schema, schema.keys, reasoning=index % 2 == 0)
        requests.append(
            GenerationRequest(
                query_id=f"{'greedy' if greedy else 'sampled'}-{index}",
                prompt=render_chat(processor, text),
                image_keys=(key,),
                num_traces=1 if greedy else num_traces,
                seed=2**62 + 1_000_003 * index,
                weight_version=0,
                answer=AnswerSampling() if greedy else None,
            )
        )
    return requests


def max_logprob_difference(groups: Sequence[RolloutGroup], others: Sequence[RolloutGroup]) -> float:
    """Largest difference of two batches' logprobs, NaN if one is; infinite where their tokens differ."""
    differences = [0.0]
    for group, other in zip(groups, others, strict=True):
        for rollout, peer in zip(group.rollouts, other.rollouts, strict=True):
            if rollout.token_ids != peer.token_ids:
                return float("inf")
            differences += [abs(a - b) for a, b in zip(rollout.logprobs, peer.logprobs, strict=True)]
    return float(np.max(differences))
