"""The training loop: generate -> score -> advantage -> update -> sync, with evaluation and checkpoints in between.

The method is that of "Efficient Medical VIE via Reinforcement Learning" (arXiv 2506.13363): a random subset of a
document's keys is asked for, several reasoning traces are sampled, the JSON at their end earns a reward for precision
and recall, and the policy is updated by GRPO with a token-level loss and clip-higher. We deviate in mixing in keys that
the document does not have, so that leaving out is learned as well as answering.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from learner.config import learning_rate_at
from learner.errors import CheckpointError
from medvie_rl.batch import ScoredGroup, make_training_groups, rollout_records, step_metrics
from medvie_rl.config import Config
from medvie_rl.data.load import RunData, load_run_data
from medvie_rl.data.queries import Query, QueryStream, evaluation_queries
from medvie_rl.display import Display
from medvie_rl.errors import ConfigError
from medvie_rl.evaluate import Evaluation, evaluate, restore_evaluation
from medvie_rl.run import Run, RunState
from medvie_rl.summary import finish_run
from medvie_rl.timing import Stopwatch
from medvie_rl.workers import Workers, start_workers


def train(config: Config, *, resume: Path | None = None) -> Path:
    """Train a policy, or go on with the run in the folder `resume`, whose configuration it is; returns its folder.

    Raises ConfigError for bad settings or documents before anything starts, and FloatingPointError, with the queries
    named, if a loss is not finite.
    """
    data = load_run_data(config)
    run = Run.open(resume) if resume else Run.create(config)
    with Display(run.folder, config) as display, start_workers(config, data, display.status) as workers:
        try:
            before, after, state = _train(run, data, workers, display)
            finish_run(run, data, state, before, after, display)
        finally:
            run.close()
    return run.folder


def _train(run: Run, data: RunData, workers: Workers, display: Display) -> tuple[Evaluation, Evaluation, RunState]:
    config = run.config
    state = _restore(run, workers, display)
    run.start_logging(state)
    validation = evaluation_queries(data.validation, data.schemas, reasoning=config.evaluation.reasoning)
    test = evaluation_queries(data.test, data.schemas, reasoning=config.evaluation.reasoning)
    before = _evaluate_once(run, state, workers, "before", test, display)
    if state.best_step < 0:
        display.status(f"scoring the base on {len(validation)} validation documents")
        _log_and_save(run, state, workers, _validate(run, state, workers, validation), display)

    queries = QueryStream(data.train, data.schemas, config.queries, seed=config.seed)
    for step in range(state.step, config.num_steps):
        started = time.monotonic()
        metrics = _step(step, state, run, workers, queries)
        state.step = step + 1
        if _is_due(state.step, config.evaluation.every, config.num_steps):
            metrics |= _validate(run, state, workers, validation)
        state.seconds += time.monotonic() - started
        _log_and_save(run, state, workers, metrics, display)

    workers.load_weights(run.best_policy, version=state.weight_version + 1)
    after = _evaluate_once(run, state, workers, "after", test, display)
    return before, after, state


def _step(step: int, state: RunState, run: Run, workers: Workers, queries: QueryStream) -> dict[str, float]:
    """One turn of the loop; returns its metrics."""
    config = run.config
    watch = Stopwatch()
    asked = queries.take(step * config.queries_per_step, config.queries_per_step)
    with watch("generate"):
        rollouts = workers.generate(asked, step=step)
    with watch("score"):
        scores = workers.score(asked, rollouts)
    groups = [ScoredGroup(query=q, group=g, scores=s) for q, g, s in zip(asked, rollouts, scores, strict=True)]
    run.record_rollouts(step + 1, rollout_records(step + 1, groups))  # before anything is dropped
    metrics = step_metrics(groups, weight_version=state.weight_version)

    batch = make_training_groups(groups, normalize=config.learner.normalize_advantages)
    learning_rate = learning_rate_at(config.learner, step, config.num_steps)
    if batch:  # else every group's rewards were equal (counted above): nothing to learn from this step
        with watch("update"):
            stats = workers.update(asked, batch, learning_rate=learning_rate, step=step)
        with watch("sync"):
            state.weight_version += 1
            receipt = workers.sync_weights(state.weight_version)
        metrics |= {f"loss/{name}": value for name, value in asdict(stats).items() if name != "seconds"}
        metrics |= {"sync/bytes": receipt.num_bytes, "time/engine_load": receipt.seconds}
    metrics |= {"loss/learning_rate": learning_rate, "sync/weight_version": state.weight_version}
    return metrics | watch.metrics()


def _validate(run: Run, state: RunState, workers: Workers, queries: Sequence[Query]) -> dict[str, float]:
    """Score the validation documents; notes in the state whether this policy is the best so far."""
    config = run.config.evaluation
    evaluation = evaluate(workers, queries, bootstrap_samples=config.bootstrap_samples, seed=run.config.seed)
    run.record_evaluation(f"step-{state.step:06d}", evaluation.record())
    if evaluation.metrics.f1 > state.best_f1:
        state.best_step, state.best_f1 = state.step, evaluation.metrics.f1
    return evaluation.step_metrics() | {"eval/best_f1": state.best_f1}


def _log_and_save(run: Run, state: RunState, workers: Workers, metrics: Mapping[str, float], display: Display) -> None:
    """Log the step; save a checkpoint when due or when the policy is the best so far, which is then exported, too."""
    config = run.config
    run.log(state.step, metrics)
    display.step(state.step, metrics)
    is_best = state.best_step == state.step
    if is_best or _is_due(state.step, config.checkpoint.every, config.num_steps):
        run.save(state, workers.save)
    if is_best:
        run.replace_best(workers.export, step=state.step)


def _restore(run: Run, workers: Workers, display: Display) -> RunState:
    """Bring learner and engines to the newest usable checkpoint's state; a run without any begins at the base."""
    checkpoints = run.checkpoints()
    for folder, state in checkpoints:
        try:
            workers.load(folder)
        except CheckpointError as error:
            display.console.print(f"{error}; trying the checkpoint before it", soft_wrap=True, markup=False)
            continue
        _restore_best(run, state, folder, workers)
        workers.sync_weights(state.weight_version)
        return state
    if checkpoints:
        raise ConfigError(f"{run.folder}: none of its {len(checkpoints)} checkpoints can be used; start a new run")
    return RunState()


def _restore_best(run: Run, state: RunState, checkpoint: Path, workers: Workers) -> None:
    """Export the best policy again if its folder holds another one: the run was killed just before it was exported, or
    goes on from a checkpoint before the last improvement."""
    if run.best_policy_step() == state.best_step:
        return
    best = [folder for folder, other in run.checkpoints() if other.step == state.best_step]
    if not best:
        raise ConfigError(f"{run.folder}: the checkpoint of the best step, {state.best_step}, is gone; start a new run")
    workers.load(best[0])
    run.replace_best(workers.export, step=state.best_step)
    workers.load(checkpoint)


def _evaluate_once(
    run: Run, state: RunState, workers: Workers, name: str, queries: Sequence[Query], display: Display
) -> Evaluation:
    """Evaluate on the test documents, or take the recorded answers if the run has done it already."""
    config = run.config.evaluation
    options = {"bootstrap_samples": config.bootstrap_samples, "seed": run.config.seed}
    record = run.evaluation(name)
    if record is not None:
        return restore_evaluation(workers, queries, record, **options)
    if name == "before" and state.step > 0:
        raise ConfigError(f"{run.folder}/evaluations/before.json is gone, which a resumed run cannot make again")
    display.status(f"scoring {len(queries)} held-out documents ({name} training)")
    evaluation = evaluate(workers, queries, **options)
    run.record_evaluation(name, evaluation.record())
    return evaluation


def _is_due(step: int, every: int, num_steps: int) -> bool:
    return step == num_steps or (every > 0 and step % every == 0)
