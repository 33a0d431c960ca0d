"""What a configuration would do, in words and numbers: `medvie train --dry-run`. Starts nothing."""

from medvie_rl.config import Config, to_yaml


def describe_plan(config: Config) -> str:
    """The resolved configuration, who runs where, and the arithmetic of a batch."""
    return f"{to_yaml(config)}\n{_layout(config)}\n{_arithmetic(config)}"


def _layout(config: Config) -> str:
    rollout, learner, reward, cluster = config.rollout, config.learner, config.reward, config.cluster
    components = "".join(f", {component.name} × {component.weight:g}" for component in reward.components)
    num_cpus = rollout.num_workers * cluster.rollout_cpus + learner.num_ranks * cluster.learner_cpus
    num_gpus = rollout.num_workers * cluster.rollout_gpus + learner.num_ranks * cluster.learner_gpus
    where = cluster.address or "the job's cluster, or a Ray started on this machine"
    return "\n".join(
        [
            f"Layout ({where}): {num_gpus:g} GPUs, {num_cpus + cluster.reward_cpus:g} CPUs",
            f"  rollout   {rollout.num_workers} vLLM engines × {cluster.rollout_gpus:g} GPU, "
            f"{cluster.rollout_cpus:g} CPU, {rollout.dtype}",
            f"  learner   {learner.num_ranks} DeepSpeed ranks × {cluster.learner_gpus:g} GPU, "
            f"{cluster.learner_cpus:g} CPU, ZeRO-{learner.zero_stage}, {learner.dtype}",
            f"  reward    1 actor × {cluster.reward_cpus:g} CPU, {reward.num_processes} scoring processes{components}",
        ]
    )


def _arithmetic(config: Config) -> str:
    learner = config.learner
    num_rollouts = config.queries_per_step * config.num_traces
    num_updates = learner.epochs_per_step * learner.minibatches_per_step
    groups = config.queries_per_step / learner.minibatches_per_step / learner.num_ranks
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
