"""The training loop: generate -> score -> advantage -> update -> sync, with evaluation and checkpoints in between.

The method is that of "Efficient Medical VIE via Reinforcement Learning" (arXiv 2506.13363): a random subset of a
document's keys is asked for, several reasoning traces are sampled, the JSON at their end earns a reward for precision
and recall, and the policy is updated by GRPO with a token-level loss and clip-higher. We deviate in mixing in keys that
the document does not have, so that leaving out is learned as well as answering.
"""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import fsum
from pathlib import Path

from cluster.errors import GangError
from learner.config import learning_rate_at
from medvie_rl.batch import (
    make_training_groups,
    sampled_groups,
    step_metrics,
    update_metrics,
)
from medvie_rl.config import Config
from medvie_rl.data.load import RunData, load_run_data
from medvie_rl.data.queries import Query, QueryStream, evaluation_queries
from medvie_rl.display import Display
from medvie_rl.dynamic_sampling import dynamic_metrics, informative_groups, sample_groups
from medvie_rl.evaluate import Evaluation, evaluate
from medvie_rl.failures import dumped_if_suspect
from medvie_rl.fingerprint import fingerprint
from medvie_rl.interrupts import StoppedBySignal, stopping_between_steps
from medvie_rl.pipeline import Pipeline
from medvie_rl.rails import Rails
from medvie_rl.records import rollout_records
from medvie_rl.replay import Replay, check_replay, reason_to_end
from medvie_rl.restore import evaluate_once, restore
from medvie_rl.run import Run, RunState
from medvie_rl.sft import Demonstrations, sft_step
from medvie_rl.summary import finish_run
from medvie_rl.timing import Stopwatch
from medvie_rl.workers import WORKER_CLASSES, WorkerClasses, Workers, start_workers
from rollout.types import RolloutGroup

InFlight = Mapping[int, Sequence[RolloutGroup]]
"""Batches that were generated and not yet trained on, by step."""


def train(
    config: Config,
    *,
    resume: Path | None = None,
    folder: Path | None = None,
    classes: WorkerClasses = WORKER_CLASSES,
) -> Path:
    """Train a policy in a new run directory (`folder`, if named), or go on with the run in the folder `resume`, of
    which only the layout may have changed; returns the run's folder.

    Raises ConfigError for bad settings or documents before anything starts, FloatingPointError, with the documents
    named, if a loss is not finite, StoppedBySignal after the step and checkpoint at whose time a signal came, and
    GangError for a lost learner rank or the like, after `cluster.max_failures` of them that it went on from.
    """
    data = load_run_data(config)
    check_replay(config, data)
    inputs = fingerprint(config, data)
    run = Run.open(resume, config) if resume else Run.create(config, folder)
    run.check_inputs(inputs)
    with Display(run.folder, config) as display:
        failures = 0
        while True:
            try:
                _run_to_end(run, data, display, classes)
                return run.folder
            except GangError as error:
                failures += 1
                display.notice(_going_on(run, error, failures))


def _run_to_end(run: Run, data: RunData, display: Display, classes: WorkerClasses) -> None:
    """Start all actors, go on from the newest checkpoint, and finish."""
    with start_workers(run.config, data, display.status, display.notice, classes) as workers:
        try:
            before, after, state = _train(run, data, workers, display)
            finish_run(run, data, state, before, after, display)
        finally:
            run.close()


def _going_on(run: Run, error: GangError, failures: int) -> str:
    """What is done after a loss that the actors which are left cannot make up for; raises it when that is too often, or
    nothing is there to go on from."""
    allowed = run.config.cluster.max_failures
    if not run.checkpoints.folders():
        raise error
    if failures > allowed:
        raise GangError(f"{error}; go on with --resume {run.folder}") from error
    return (
        f"{error}; all actors start anew from the last checkpoint (failure {failures} of cluster.max_failures = "
        f"{allowed})"
    )


def _train(run: Run, data: RunData, workers: Workers, display: Display) -> tuple[Evaluation, Evaluation, RunState]:
    config = run.config
    gc.freeze()  # what was imported stays: looking through all of it takes half a second each time
    display.notice(workers.learner_summary)
    state, ahead = restore(run, workers, display.notice)
    run.start_logging(state, display.notice, data.find)
    validation = evaluation_queries(data.validation, data.schemas, reasoning=config.evaluation.reasoning)
    test = evaluation_queries(data.test, data.schemas, reasoning=config.evaluation.reasoning)
    take_step, in_flight = _method(run, state, data, workers, ahead, display.notice)
    before = evaluate_once(run, state, workers, "before", test, display.status)
    if state.best_step < 0:
        display.status(f"scoring the base on {len(validation)} validation documents")
        _log(run, state, _validate(run, state, workers, validation), display)
        _save(run, state, workers, dict)

    rails = Rails(config.rails, run.metrics())
    with stopping_between_steps(display.notice) as signals:
        for step in range(state.step, config.num_steps):
            if state.stopped:
                break
            started = time.monotonic()
            metrics = take_step(step, state)
            metrics |= rails.observe(metrics)
            state.step = step + 1
            state.stopped = rails.reason_to_stop(metrics) or reason_to_end(config, step + 1)
            if _is_due(state, config.evaluation.every, config):
                metrics |= _validate(run, state, workers, validation)
            state.seconds += time.monotonic() - started
            _log(run, state, metrics, display)
            number = signals.number  # one that comes from here on is for the next step
            _save(run, state, workers, in_flight, at_once=bool(number))
            if number:
                raise StoppedBySignal(number, f"go on with --resume {run.folder}")
    if state.stopped:
        display.notice(f"stopped after step {state.step}: {state.stopped}")

    workers.load_weights(run.best_policy, version=state.weight_version + 1)
    after = evaluate_once(run, state, workers, "after", test, display.status)
    return before, after, state


def _method(
    run: Run, state: RunState, data: RunData, workers: Workers, ahead: InFlight, notice: Callable[[str], None]
) -> tuple[Callable[[int, RunState], dict[str, float]], Callable[[], InFlight]]:
    """How a step is taken, and what is in flight after it: by reinforcement learning (from what the engines sample,
    or another run recorded) or on demonstrations."""
    config = run.config
    if config.method == "sft":
        demonstrations = Demonstrations(config, data, workers, notice)
        return partial(sft_step, run=run, workers=workers, demonstrations=demonstrations), dict
    if config.records.replay:
        replay = Replay(config, data)
        return partial(_step, run=run, workers=workers, pipeline=replay), replay.in_flight
    queries = QueryStream(data.train, data.schemas, config.queries, seed=config.seed)
    pipeline = Pipeline(workers, queries, config, state, ahead)
    return partial(_step, run=run, workers=workers, pipeline=pipeline), pipeline.in_flight


def _step(step: int, state: RunState, *, run: Run, workers: Workers, pipeline: Pipeline | Replay) -> dict[str, float]:
    """One turn of the loop; returns its metrics."""
    config, watch = run.config, Stopwatch()
    groups = sample_groups(step, state, pipeline, workers, config, watch)
    records = rollout_records(step + 1, groups, watch.seconds)  # before anything is dropped
    metrics = step_metrics(groups, weight_version=state.weight_version) | workers.health_metrics()
    if config.dynamic_sampling.max_rounds:
        metrics |= dynamic_metrics(groups, config.queries_per_step)
        groups = informative_groups(groups)[: config.queries_per_step]
    asked = [group.query for group in groups]

    penalties = None
    if groups and config.loss.needs_reference and config.loss.kl_in == "reward":
        with watch("reference"), dumped_if_suspect(run, step + 1, groups):
            kl = workers.reference_kl(asked, sampled_groups(groups))
        num_tokens = sum(len(rollout.token_ids) for group in groups for rollout in group.group.rollouts)
        metrics["loss/reference_kl"] = fsum(kl.values()) / num_tokens
        penalties = {response: config.loss.kl_coefficient * value for response, value in kl.items()}
    batch = make_training_groups(groups, config.loss, penalties)
    learning_rate = learning_rate_at(config.learner, step, config.num_steps)
    with watch("update"), dumped_if_suspect(run, step + 1, groups):
        # With no batch every group's rewards were equal (counted above): nothing to learn from this step.
        updating = workers.start_update(asked, batch, learning_rate=learning_rate, step=step) if batch else None
        run.record_rollouts(step + 1, records)  # while the learner works
        receipt = workers.finish_sync()
        if updating:
            stats, cost = updating.result()[0]
            metrics |= update_metrics(stats, cost)
    if updating:
        with watch("sync"):
            state.weight_version += 1
            metrics["sync/bytes"] = workers.start_sync(state.weight_version)
            if not config.pipeline_depth:
                receipt = workers.finish_sync()
    if receipt:
        metrics["time/engine_load"] = receipt.seconds
    metrics |= {"loss/learning_rate": learning_rate, "sync/weight_version": state.weight_version}
    return metrics | watch.metrics()


def _validate(run: Run, state: RunState, workers: Workers, queries: Sequence[Query]) -> dict[str, float]:
    """Score the validation documents; notes in the state whether this policy is the best so far."""
    config, best_metric = run.config.evaluation, run.config.checkpoint.best_metric
    if run.config.method == "sft" and state.step:
        workers.sync_weights(state.weight_version)  # which its steps leave out
    evaluation = evaluate(workers, queries, bootstrap_samples=config.bootstrap_samples, seed=run.config.seed)
    run.record_evaluation(f"step-{state.step:06d}", evaluation.record())
    metrics = evaluation.step_metrics()
    if metrics[f"eval/{best_metric}"] > state.best_value:
        state.best_step, state.best_value = state.step, metrics[f"eval/{best_metric}"]
    return metrics | {f"eval/best_{best_metric}": state.best_value}


def _log(run: Run, state: RunState, metrics: Mapping[str, float], display: Display) -> None:
    run.log(state.step, metrics)
    display.step(state.step, metrics)


def _save(
    run: Run, state: RunState, workers: Workers, in_flight: Callable[[], InFlight], *, at_once: bool = False
) -> None:
    """Save a checkpoint when due or when the policy is the best so far, which is then exported, too."""
    config = run.config
    is_best = state.best_step == state.step
    if is_best or at_once or _is_due(state, config.checkpoint.every, config):
        run.save(state, workers.save, in_flight())
    if is_best:
        run.replace_best(workers.export, step=state.step)


def _is_due(state: RunState, every: int, config: Config) -> bool:
    return state.step == config.num_steps or bool(state.stopped) or (every > 0 and state.step % every == 0)
