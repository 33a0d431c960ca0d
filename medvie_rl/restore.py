"""Going on with a run: the learner's and the engines' state, the best policy, what was evaluated before."""

from collections.abc import Callable, Sequence
from pathlib import Path

from medvie_rl.data.queries import Query
from medvie_rl.errors import ConfigError
from medvie_rl.evaluate import Evaluation, evaluate, restore_evaluation
from medvie_rl.run import Run, RunState
from medvie_rl.workers import Workers
from rollout.types import RolloutGroup


def restore(
    run: Run, workers: Workers, notice: Callable[[str], None]
) -> tuple[RunState, dict[int, list[RolloutGroup]]]:
    """Bring learner and engines to the newest usable checkpoint's state; returns it and the batches in flight then.

    A run without any checkpoint begins at the base, which the engines get from the learner, too: from then on they hold
    what it holds, whatever they were started from.
    """
    found = run.checkpoints.restore(workers.load, notice)
    if found is None:
        state = RunState()
        workers.sync_weights(state.weight_version)
        return state, {}
    folder, state = found
    _restore_best(run, state, folder, workers)
    workers.sync_weights(state.weight_version)
    return state, run.in_flight(folder)


def evaluate_once(
    run: Run,
    state: RunState,
    workers: Workers,
    name: str,
    queries: Sequence[Query],
    status: Callable[[str], None],
) -> Evaluation:
    """Evaluate on the test documents, or take the recorded answers if the run has done it already."""
    config = run.config.evaluation
    options = {"bootstrap_samples": config.bootstrap_samples, "seed": run.config.seed}
    record = run.evaluation(name)
    if record is not None:
        return restore_evaluation(workers, queries, record, **options)
    if name == "before" and state.step > 0:
        raise ConfigError(f"{run.folder}/evaluations/before.json is gone, which a resumed run cannot make again")
    status(f"scoring {len(queries)} held-out documents ({name} training)")
    evaluation = evaluate(workers, queries, **options)
    run.record_evaluation(name, evaluation.record())
    return evaluation


def _restore_best(run: Run, state: RunState, checkpoint: Path, workers: Workers) -> None:
    """Export the best policy again if its folder holds another one, or a damaged one: the run was killed just before it
    was exported, goes on from a checkpoint before the last improvement, or a power cut tore its files."""
    if run.best_policy_step() == state.best_step:
        return
    best = run.checkpoints.of_step(state.best_step)
    if best is None:
        raise ConfigError(f"{run.folder}: the checkpoint of the best step, {state.best_step}, is gone; start a new run")
    workers.load(best)
    run.replace_best(workers.export, step=state.best_step)
    workers.load(checkpoint)
