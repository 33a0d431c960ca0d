"""Rollout engines and learner ranks without a model: the interface of RolloutWorker and LearnerWorker, and what these
return, of realistic size. Imports neither torch nor vllm, so that many of them fit on one machine."""

import json
import random
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from learner.config import LearnerConfig
from learner.loss_config import Loss
from learner.manifest import file_digests, files_below, write_manifest
from learner.types import ALL, UpdateBatch, UpdateCost, UpdateStats
from rollout.config import AdapterSlot, RolloutConfig
from rollout.types import FinishReason, GenerationRequest, Rollout, RolloutGroup, WeightReceipt

_BANNED = (3, 4, 5, 6)  # image and video tokens and their markers
_IMAGE_TOKEN = 5
_FIRST_ID, _NUM_IDS = 16, 150_000  # of sampled tokens: a vocabulary like that of Qwen2.5
_CHARACTERS = 4  # of a token
_RIGHT, _LEFT_OUT = 0.7, 0.1  # shares of the values of an answer; the others are misread
_WAIT_SECONDS, _LOOK_SECONDS = 60.0, 0.01  # for the other ranks' files


class SimulatedEngine:
    """Answers at once from a file of right answers, with errors that differ from trace to trace."""

    answers: ClassVar[Path]  # JSON: what the document has of the asked keys, by query id
    image_tokens: ClassVar[int] = 1300  # of a page
    response_tokens: ClassVar[int] = 500  # on average, from half to one and a half times as many

    def __init__(self, config: RolloutConfig, model: str, adapter: AdapterSlot | None = None) -> None:
        self._config = config
        self._answers: dict[str, dict[str, Any]] = json.loads(self.answers.read_text(encoding="utf-8"))
        self._images: set[str] = set()
        self._version = 0

    def banned_token_ids(self) -> tuple[int, ...]:
        """As RolloutWorker's."""
        return _BANNED

    def add_images(self, images: Mapping[str, bytes]) -> None:
        """Note which images are here."""
        self._images.update(images)

    def generate(
        self, requests: Sequence[GenerationRequest], images: Mapping[str, bytes] | None = None
    ) -> list[RolloutGroup]:
        """One group a request, of texts, ids and logprobs that depend on its seed only. Raises ValueError for an image
        that has not come, and RuntimeError for a request of other weights, as RolloutWorker does."""
        started = time.monotonic()
        self.add_images(images or {})
        groups = []
        for request in requests:
            if missing := set(request.image_keys) - self._images:
                raise ValueError(f"query {request.query_id}: images {sorted(missing)} are not here")
            if request.weight_version != self._version:
                raise RuntimeError(f"query {request.query_id} is for weights {request.weight_version}, not these")
            groups.append((request, [self._rollout(request, trace) for trace in range(request.num_traces)]))
        seconds = time.monotonic() - started
        return [
            RolloutGroup(
                query_id=request.query_id,
                prompt_ids=(*token_ids(request.prompt), *(_IMAGE_TOKEN,) * self.image_tokens * len(request.image_keys)),
                rollouts=tuple(rollouts),
                seconds=seconds,
            )
            for request, rollouts in groups
        ]

    def update_weights(
        self, buckets: Sequence[Any], version: int, *, rest: Sequence[Any] = (), keep_rest: bool = False
    ) -> WeightReceipt:
        """Take the version; of weights there are none."""
        self._version = version
        return WeightReceipt(version=version, num_tensors=0, num_bytes=0, digests={}, digest="", seconds=0.0)

    def _rollout(self, request: GenerationRequest, trace: int) -> Rollout:
        rng = random.Random(request.seed + trace)
        answer = _with_errors(self._answers[request.query_id], rng)
        num_tokens = int(self.response_tokens * rng.uniform(0.5, 1.5))
        text = _response(answer, num_tokens, rng)
        ids = token_ids(text)[: self._config.max_response_tokens]
        cut = _CHARACTERS * len(ids) < len(text)
        return Rollout(
            text=text[: _CHARACTERS * len(ids)],
            token_ids=ids,
            logprobs=tuple(-rng.expovariate(4.0) for _ in ids),
            finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
            weight_version=self._version,
        )


def token_ids(text: str) -> tuple[int, ...]:
    """An id for every four characters: texts that begin alike have ids that do."""
    pieces = (text[start : start + _CHARACTERS] for start in range(0, len(text), _CHARACTERS))
    return tuple(_FIRST_ID + zlib.crc32(piece.encode()) % _NUM_IDS for piece in pieces)


def _with_errors(value: Any, rng: random.Random) -> Any:
    """The value with some of its leaves left out and some misread."""
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if rng.random() >= _LEFT_OUT}
        return {key: _with_errors(part, rng) for key, part in kept.items()}
    if isinstance(value, list):
        return [_with_errors(part, rng) for part in value]
    return value if rng.random() < _RIGHT / (1 - _LEFT_OUT) else f"{value}{rng.randrange(10)}"


def _response(answer: Mapping[str, Any], num_tokens: int, rng: random.Random) -> str:
    """Reasoning lines, as many as make about so many tokens in all, and the answer."""
    found = json.dumps(answer, ensure_ascii=False)
    lines = [f"{key}: {value}" for key, value in answer.items()]
    room = _CHARACTERS * num_tokens - len(found) - sum(map(len, lines))
    while room > 0:
        lines.append(f"line {rng.randrange(100)} reads {rng.randrange(10**9)} beside {rng.randrange(10**6)}")
        room -= len(lines[-1])
    return "<think>" + "\n".join(lines) + "</think>\n" + found


class SimulatedRank:
    """Takes batches, notes which responses they hold, and returns statistics of an update that changes nothing."""

    def __init__(
        self,
        config: LearnerConfig,
        model: str,
        rank: int,
        world_size: int,
        master_address: str,
        master_port: int,
        loss: Loss,
    ) -> None:
        self._rank, self._num_ranks = rank, world_size
        self._images: set[str] = set()
        self._trained: list[tuple[str, int]] = []  # (query id, trace) of every response so far

    def summary(self) -> str:
        """What a run says of its learner."""
        return f"simulated learner of {self._num_ranks} ranks: nothing is trained"

    def add_images(self, images: Mapping[str, bytes]) -> None:
        """Note which images are here."""
        self._images.update(images)

    def update(self, batch: UpdateBatch) -> tuple[UpdateStats, UpdateCost]:
        """Note the responses. Raises ValueError for an image that has not come."""
        started = time.monotonic()
        for group in (group for minibatch in batch.minibatches for group in minibatch):
            if missing := set(group.image_keys) - self._images:
                raise ValueError(f"query {group.query_id}: images {sorted(missing)} are not here")
            self._trained += [(group.query_id, response.trace) for response in group.responses]
        stats = UpdateStats(
            loss=0.0,
            gradient_norm=0.0,
            clip_fraction=0.0,
            entropy=0.0,
            ratio_max=1.0,
            ratio_explosions=0,
            sampler_kl=0.0,
            sampler_logprob_difference=0.0,
            sampler_logprob_difference_max=0.0,
            importance_weight=1.0,
            importance_bounded=0.0,
            reference_kl=None,
            num_tokens=sum(batch.num_response_tokens),
            num_optimizer_steps=len(batch.minibatches),
        )
        return stats, UpdateCost(seconds={"simulated": time.monotonic() - started}, memory_gib=0.0)

    def gather_weights(self, dtype: str | None = None, *, part: str = ALL, digests: bool = True) -> list[Any]:
        """No buckets."""
        return []

    def weight_bytes(self, dtype: str | None = None, *, part: str = ALL) -> int:
        """None."""
        return 0

    def read_exported(
        self, folder: Path, dtype: str | None = None, *, part: str = ALL, digests: bool = True
    ) -> list[Any]:
        """No buckets."""
        return []

    def save(self, folder: Path) -> None:
        """Each rank writes what it was given, in `trained-RANK.json`; rank 0 seals the folder when all have."""
        aside = folder.with_name(f"{folder.name}.trained-{self._rank}")
        aside.write_text(json.dumps(self._trained), encoding="utf-8")
        aside.rename(folder / f"trained-{self._rank}.json")
        if self._rank == 0:
            deadline = time.monotonic() + _WAIT_SECONDS
            while len(list(folder.glob("trained-*.json"))) < self._num_ranks:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{folder}: not all of {self._num_ranks} ranks have written their file")
                time.sleep(_LOOK_SECONDS)
            digests = file_digests(folder, files_below(folder))
            write_manifest(folder, {}, {name: digest for name, digest in digests.items() if digest})

    def export(self, folder: Path) -> None:
        """A folder, as that of a policy."""
        if self._rank == 0:
            folder.mkdir(parents=True)
            (folder / "config.json").write_text("{}\n", encoding="utf-8")
