"""What a configuration would do, in words and numbers: `medvie train --dry-run`, `medvie plan`. Starts nothing."""

from pathlib import Path

from learner.config import LearnerConfig
from medvie_rl.config import Config, to_yaml
from medvie_rl.errors import ConfigError
from medvie_rl.layout_config import takes_turns
from medvie_rl.records import recorded_steps


def describe_plan(config: Config) -> str:
    """The resolved configuration, who runs where, and the arithmetic of a batch.

    Raises UserError if the traces to learn from, or the rollouts to replay, are not there.
    """
    if config.sft.traces and not Path(config.sft.traces).exists():
        raise ConfigError(f"sft.traces: there is no file or run directory {config.sft.traces}")
    if config.records.replay:
        recorded_steps(Path(config.records.replay))
    return f"{to_yaml(config)}\n{describe_layout(config)}\n{_loss(config)}"


def describe_layout(config: Config) -> str:
    """Who runs where, and the arithmetic of a batch."""
    return f"{_layout(config)}\n{_arithmetic(config)}"


def _layout(config: Config) -> str:
    rollout, learner, reward, cluster = config.rollout, config.learner, config.reward, config.cluster
    components = "".join(f", {component.name} × {component.weight:g}" for component in reward.components)
    num_cpus = rollout.num_workers * cluster.rollout_cpus + learner.num_ranks * cluster.learner_cpus
    gpus = ("", "")
    if cluster.on_gpus:
        own = "" if cluster.layout == "split" else " of them"
        gpus = (f"{rollout.tensor_parallel_size} GPU, ", f"1 GPU{own}, ")
    where = cluster.address or "the job's cluster, or a Ray started on this machine"
    return "\n".join(
        [
            f"Layout ({where}): {cluster.layout}, {config.num_gpus} GPUs, {num_cpus + cluster.reward_cpus:g} CPUs",
            f"  rollout   {rollout.num_workers} vLLM engines × {gpus[0]}{cluster.rollout_cpus:g} CPU, {rollout.dtype}",
            f"  learner   {learner.num_ranks} DeepSpeed ranks × {gpus[1]}"
            f"{cluster.learner_cpus:g} CPU, ZeRO-{learner.zero_stage}, {learner.dtype}, {_trained(learner)}",
            f"  weights   {_weights(config)}",
            f"  reward    1 actor × {cluster.reward_cpus:g} CPU, {reward.num_processes} scoring processes{components}",
        ]
    )


def _weights(config: Config) -> str:
    ways = {
        "object_store": "through Ray's object store",
        "broadcast": f"broadcast by {'NCCL' if config.cluster.on_gpus else 'gloo'}",
        "ipc": f"in {'GPU' if config.cluster.on_gpus else 'shared'} memory, from each rank to engines beside it",
    }
    if config.adapter_apart:
        return f"the adapter alone, {ways['object_store']}"
    return f"{ways[config.transport]}{', GPUs shared by turns' if takes_turns(config) else ''}"


def _trained(learner: LearnerConfig) -> str:
    if learner.lora.rank:
        return f"LoRA rank {learner.lora.rank}"
    frozen = {"vision tower": learner.freeze_vision, "projector": learner.freezes_projector}
    names = " and ".join(name for name, is_frozen in frozen.items() if is_frozen)
    return f"full fine-tuning{f' but {names}' if names else ''}"


def _loss(config: Config) -> str:
    loss = config.loss
    if config.method == "sft":
        reasoning = f"reasoning from {config.sft.traces}" if config.sft.traces else "without reasoning"
        return f"Loss: negative log-likelihood of demonstrations, mean over tokens; {reasoning}"
    kl = f"{loss.kl_coefficient:g} × {loss.kl_estimator} in the {loss.kl_in}" if loss.needs_reference else "none"
    correction = f"{loss.importance} by {loss.importance_level} at {loss.importance_max:g}"
    return "\n".join(
        [
            f"Loss: {loss.preset}",
            f"  advantage {loss.advantage}, {loss.ratio} ratio, {loss.surrogate} surrogate in "
            f"[{1 - loss.clip_low:g}, {1 + loss.clip_high:g}], mean by {loss.aggregation}",
            f"  KL to the reference: {kl}; entropy bonus {loss.entropy_coefficient:g}; truncated responses: "
            f"{loss.overlong}",
            f"  sampler against learner: {correction if loss.corrects_sampler else 'not corrected'}; batches sampled "
            f"ahead: {config.pipeline_depth}",
        ]
    )


def _arithmetic(config: Config) -> str:
    learner = config.learner
    if config.method == "sft":
        return _arithmetic_of_sft(config)
    num_rollouts = config.queries_per_step * config.num_traces
    num_updates = learner.epochs_per_step * learner.minibatches_per_step
    groups = config.queries_per_step / learner.minibatches_per_step / learner.num_ranks
    if config.records.replay:
        return f"Batches: as {config.records.replay} recorded them, at most {config.num_steps} steps"
    return "\n".join(
        [
            "Batch arithmetic",
            f"  {config.queries_per_step} queries × {config.num_traces} traces = {num_rollouts} rollouts a step, "
            f"{num_rollouts / config.rollout.num_workers:g} for each engine",
            f"  at most {num_rollouts * config.rollout.max_response_tokens} response tokens a step",
            f"  {learner.epochs_per_step} epochs × {learner.minibatches_per_step} minibatches = {num_updates} "
            f"optimizer updates a step, {groups:g} groups for each rank and minibatch",
            f"  micro-batches of at most {learner.max_tokens_per_micro_batch} packed tokens (prompt once per group)",
            f"  {config.num_steps} steps = {config.num_steps * num_updates} updates, "
            f"{config.num_steps * config.queries_per_step} queries",
        ]
    )


def _arithmetic_of_sft(config: Config) -> str:
    learner = config.learner
    num_updates = learner.epochs_per_step * learner.minibatches_per_step
    return "\n".join(
        [
            "Batch arithmetic",
            f"  {config.queries_per_step} demonstrations a step, each a query with its one response of at most "
            f"{config.rollout.max_response_tokens} tokens",
            f"  {learner.epochs_per_step} epochs × {learner.minibatches_per_step} minibatches = {num_updates} "
            "optimizer updates a step",
            f"  {config.num_steps} steps = {config.num_steps * num_updates} updates, "
            f"{config.num_steps * config.queries_per_step} demonstrations",
        ]
    )
