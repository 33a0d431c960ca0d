"""The learner's update: forward, loss, backward and optimizer steps over micro-batches of packed rows."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed
from torch import Tensor

from learner.batching import plan_micro_batches
from learner.config import LearnerConfig
from learner.errors import NonFiniteError, ParityError, SuspectError
from learner.loss import LossSums, LossTokens, kl_estimate, policy_loss, token_weights
from learner.loss_config import Loss
from learner.packing import PackedRows
from learner.types import ResponseKl, TrainingGroup, UpdateBatch, UpdateCost, UpdateStats

Pack = Callable[[Sequence[TrainingGroup]], PackedRows]


class Updater:
    """Updates one rank's DeepSpeed engine. All methods are collective."""

    def __init__(
        self,
        config: LearnerConfig,
        loss: Loss,
        engine: Any,
        optimizer: Any,
        pack: Pack,
        *,
        reference: Any,
        device: torch.device,
    ) -> None:
        """`reference` is a learner.reference.Reference, None if the loss needs none."""
        self._config, self._loss = config, loss
        self._engine, self._optimizer, self._pack, self._reference = engine, optimizer, pack, reference
        self._reference_in_loss = reference is not None and loss.kl_in == "loss"
        self._device = device
        self._world_size = torch.distributed.get_world_size()
        self._watch = _PhaseWatch(device)

    def update(self, batch: UpdateBatch) -> tuple[UpdateStats, UpdateCost]:
        """One optimizer step per minibatch.

        Raises, on every rank and naming the queries, NonFiniteError when a loss or gradient is not finite, ParityError
        when a sampler's logprob is farther from the learner's than the batch allows.
        """
        self._watch.start()
        sums = _Sums(self._device)
        old_logprobs = self._old_logprobs(batch)
        gradient_norms = []
        for index, groups in enumerate(batch.minibatches):
            suspects: set[str] = set()
            strangers: set[str] = set()
            for number, micro_batch in enumerate(self._plan(batch, index)):
                old = old_logprobs[index][number] if old_logprobs else None
                suspects |= self._accumulate(micro_batch, batch, index, old, sums, strangers)
            self._raise_together(suspects, NonFiniteError, f"the loss of minibatch {index} is not finite")
            if index == 0 and batch.max_logprob_difference:
                what = f"logprobs of sampler and learner differ by more than {batch.max_logprob_difference:g}"
                self._raise_together(strangers, ParityError, what)
            gradient_norms.append(self._step(batch.learning_rate, index, groups))
        stats = sums.stats(gradient_norms, with_reference=self._reference_in_loss)
        return stats, self._watch.cost()

    def reference_kl(self, batch: UpdateBatch) -> list[ResponseKl]:
        """KL(sampler || reference) of this rank's responses, summed over their tokens.

        Raises NonFiniteError, on every rank and naming the queries, when one is not finite.
        """
        found = []
        for index in range(len(batch.minibatches)):
            for micro_batch in self._plan(batch, index):
                rows = self._pack(micro_batch)
                reference = self._reference_forward(rows, batch)
                kl = kl_estimate(rows.sampler_logprobs, reference, self._loss.kl_estimator)
                sums = torch.zeros(len(rows.traces), dtype=torch.float64, device=kl.device)
                sums.index_add_(0, rows.response, kl.double())
                for (query, trace), value in zip(rows.traces, sums.tolist(), strict=True):
                    found.append(ResponseKl(query_id=query, trace=trace, kl=value))
        suspects = {entry.query_id for entry in found if not math.isfinite(entry.kl)}
        self._raise_together(suspects, NonFiniteError, "the KL to the reference is not finite")
        return found

    def _plan(self, batch: UpdateBatch, index: int) -> list[list[TrainingGroup]]:
        expected = batch.num_micro_batches[index]
        plan = plan_micro_batches(batch.minibatches[index], self._config.max_tokens_per_micro_batch, expected)
        if len(plan) != expected:
            raise ValueError(
                f"minibatch {index} needs {len(plan)} micro-batches on this rank, the batch says {expected}; make it "
                "with make_update_batches and the learner's own config"
            )
        return plan

    def _old_logprobs(self, batch: UpdateBatch) -> list[list[Tensor]]:
        """Logprobs [N] of every micro-batch of every minibatch under the policy before the update. They are needed when
        sampler and learner are told apart and the policy moves more than once."""
        if not self._loss.corrects_sampler or len(batch.minibatches) == 1:
            return []
        with self._watch("old_logprobs"), torch.no_grad():
            return [
                [self._forward(self._pack(micro_batch), batch)[0] for micro_batch in self._plan(batch, index)]
                for index in range(len(batch.minibatches))
            ]

    def _forward(self, rows: PackedRows, batch: UpdateBatch) -> tuple[Tensor, Tensor]:
        logprobs, entropies = self._engine(
            rows,
            temperature=batch.temperature,
            banned_token_ids=batch.banned_token_ids,
            entropy_gradient=bool(self._loss.entropy_coefficient),
        )
        return logprobs, entropies

    def _reference_forward(self, rows: PackedRows, batch: UpdateBatch) -> Tensor:
        logprobs: Tensor = self._reference.logprobs(
            rows, temperature=batch.temperature, banned_token_ids=batch.banned_token_ids
        )
        return logprobs

    def _accumulate(
        self,
        micro_batch: list[TrainingGroup],
        batch: UpdateBatch,
        index: int,
        old: Tensor | None,
        sums: "_Sums",
        strangers: set[str],
    ) -> set[str]:
        """Forward and backward of one micro-batch; the queries whose loss is not finite. Queries that the sampler saw
        otherwise are added to the strangers, before any update."""
        with self._watch("pack"):
            rows = self._pack(micro_batch)
        reference = None
        if self._reference_in_loss:
            with self._watch("reference"):
                reference = self._reference_forward(rows, batch)
        with self._watch("forward"):
            logprobs, entropies = self._forward(rows, batch)
            tokens = self._loss_tokens(rows, logprobs, entropies, old, reference, batch, index)
            loss = policy_loss(tokens, self._loss)
        with self._watch("backward"):
            # DeepSpeed averages gradients over ranks; the loss's denominators are global numbers already.
            self._engine.backward(loss.loss * self._world_size, scale_wrt_gas=False)
        if index == 0 and batch.max_logprob_difference:
            difference = (tokens.logprobs.detach() - tokens.sampler_logprobs).abs()
            strangers |= _queries_of(rows, difference > batch.max_logprob_difference)
        if sums.add(loss, tokens, index):
            return set()
        return _queries_of(rows, ~loss.of_tokens.isfinite()) or set(rows.query_ids)

    def _loss_tokens(
        self,
        rows: PackedRows,
        logprobs: Tensor,
        entropies: Tensor,
        old: Tensor | None,
        reference: Tensor | None,
        batch: UpdateBatch,
        index: int,
    ) -> LossTokens:
        sampler = logprobs.detach() if rows.sampler_logprobs is None else rows.sampler_logprobs
        if old is None:
            old = logprobs.detach() if self._loss.corrects_sampler else sampler
        weights = token_weights(
            rows.response,
            self._loss.aggregation,
            num_tokens=batch.num_response_tokens[index],
            num_responses=batch.num_responses[index],
            max_response_tokens=batch.max_response_tokens,
            dtype=logprobs.dtype,
        )
        return LossTokens(
            logprobs=logprobs,
            old_logprobs=old,
            sampler_logprobs=sampler,
            reference_logprobs=reference,
            entropies=entropies,
            advantages=rows.advantages,
            response=rows.response,
            weights=weights,
        )

    def _step(self, learning_rate: float, index: int, groups: Sequence[TrainingGroup]) -> float:
        """Optimizer step; returns the norm of the gradient before clipping."""
        with self._watch("optimizer"):
            for parameter_group in self._optimizer.param_groups:
                parameter_group["lr"] = learning_rate
            self._engine.step()
            norm = float(self._engine.get_global_grad_norm())
        if not self._engine.was_step_applied() or not np.isfinite(norm):
            queries = {group.query_id for group in groups}
            self._raise_together(queries, NonFiniteError, f"the gradient of minibatch {index} is not finite")
        return norm

    def _raise_together(self, queries: set[str], error: type[SuspectError], what: str) -> None:
        """Raise on every rank when any rank has suspects, so that none waits for a rank that is gone."""
        any_suspects = torch.tensor(len(queries), device=self._device)
        torch.distributed.all_reduce(any_suspects)
        if not any_suspects:
            return
        of_ranks: list[Any] = [None] * self._world_size
        torch.distributed.all_gather_object(of_ranks, sorted(queries))
        raise error(what, tuple(sorted({query for of_rank in of_ranks for query in of_rank})))


def _queries_of(rows: PackedRows, tokens: Tensor) -> set[str]:
    """The queries of those response tokens [N], a mask."""
    return {rows.query_ids[row] for row in (rows.predicting[tokens] // rows.input_ids.shape[1]).unique().tolist()}


class _Sums:
    """Running sums over response tokens. Sums named `sampler_*` are of the first minibatch, before any update."""

    _NAMES = (
        "loss", "tokens", "clipped", "entropy", "explosions", "importance", "bounded", "reference_kl",
        "sampler_tokens", "sampler_kl", "sampler_difference",
    )  # fmt: skip

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(len(self._NAMES), dtype=torch.float64, device=device)
        self._max = torch.zeros(2, dtype=torch.float64, device=device)  # ratio, sampler difference

    def add(self, loss: LossSums, tokens: LossTokens, index: int) -> bool:
        """Add a micro-batch of minibatch `index`; False when its loss or statistics are not finite."""
        logprobs = tokens.logprobs.detach()
        num_tokens = torch.tensor(float(len(logprobs)), device=self._sums.device)
        values = [loss.loss.detach(), num_tokens, loss.num_clipped, tokens.entropies.detach().sum()]
        values += [loss.num_explosions, loss.importance, loss.num_bounded, loss.reference_kl]
        difference = (logprobs - tokens.sampler_logprobs).abs()
        largest = difference.max() if len(difference) else difference.sum()
        if index == 0:
            # KL(sampler || learner) from the sampler's own samples
            kl = kl_estimate(tokens.sampler_logprobs, logprobs, "k3")
            values += [num_tokens, kl.sum(), difference.sum()]
        else:
            values += [torch.zeros_like(num_tokens)] * 3
            largest = torch.zeros_like(largest)
        stacked = torch.stack([value.double() for value in values])
        self._sums += stacked
        self._max = torch.maximum(self._max, torch.stack([loss.ratio_max.double(), largest.double()]))
        return bool(stacked.isfinite().all())

    def stats(self, gradient_norms: Sequence[float], *, with_reference: bool) -> UpdateStats:
        """Means over all ranks. Collective."""
        torch.distributed.all_reduce(self._sums)
        torch.distributed.all_reduce(self._max, op=torch.distributed.ReduceOp.MAX)
        total = dict(zip(self._NAMES, self._sums.tolist(), strict=True))
        ratio_max, difference_max = self._max.tolist()
        tokens, sampler_tokens = total["tokens"], total["sampler_tokens"]
        return UpdateStats(
            loss=total["loss"] / len(gradient_norms),
            gradient_norm=sum(gradient_norms) / len(gradient_norms),
            clip_fraction=total["clipped"] / tokens,
            entropy=total["entropy"] / tokens,
            ratio_max=ratio_max,
            ratio_explosions=int(total["explosions"]),
            sampler_kl=total["sampler_kl"] / sampler_tokens,
            sampler_logprob_difference=total["sampler_difference"] / sampler_tokens,
            sampler_logprob_difference_max=difference_max,
            importance_weight=total["importance"] / tokens,
            importance_bounded=total["bounded"] / tokens,
            reference_kl=total["reference_kl"] / tokens if with_reference else None,
            num_tokens=int(tokens),
            num_optimizer_steps=len(gradient_norms),
        )


class _PhaseWatch:
    """Seconds by phase of an update and its peak memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, float] = {}

    def start(self) -> None:
        """Forget the last update."""
        self._seconds = {}
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - started

    def cost(self) -> UpdateCost:
        """Of this rank, since `start`."""
        if self._device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self._device)
        else:
            memory = psutil.Process().memory_info().rss
        return UpdateCost(seconds=dict(self._seconds), memory_gib=memory / 2**30)
