"""Which resources the actors of a run reserve, and which cores of their nodes they run on."""

from collections.abc import Callable

from cluster.actors import ActorGroup, Bundle
from cluster.cores import Place, describe_places
from cluster.pinning import plan_places
from medvie_rl.config import Config


def reserve(config: Config) -> tuple[ActorGroup, ActorGroup, ActorGroup]:
    """Room for the rollout engines, the reward actor and the learner ranks, none of which is started."""
    cluster = config.cluster
    bundles = (
        [Bundle(cpus=cluster.rollout_cpus, gpus=cluster.rollout_gpus)] * config.rollout.num_workers,
        [Bundle(cpus=cluster.reward_cpus)],
        [Bundle(cpus=cluster.learner_cpus, gpus=cluster.learner_gpus)] * config.learner.num_ranks,
    )
    rollouts, rewards, learners = (
        ActorGroup(of_group, timeout_seconds=cluster.resource_timeout_seconds) for of_group in bundles
    )
    return rollouts, rewards, learners


def choose_places(
    config: Config, rollouts: ActorGroup, learners: ActorGroup, notice: Callable[[str], None]
) -> tuple[list[Place | None], list[Place | None]]:
    """The cores of every engine and learner rank, as `cluster.pin_cores` says. `notice` is told which, or why none.

    Where no batch is sampled ahead of the learner, engines and ranks take turns on the same cores.
    """
    cluster = config.cluster
    on_gpu = cluster.rollout_gpus > 0 or cluster.learner_gpus > 0
    if cluster.pin_cores == "never" or (cluster.pin_cores == "auto" and on_gpu):
        return [], []
    engine_threads = config.rollout.num_threads * config.rollout.tensor_parallel_size
    sides = [(rollouts, engine_threads), (learners, config.learner.num_threads)]
    places, problems = plan_places(sides, in_turns=config.pipeline_depth == 0)
    for told in (describe_places(("rollout engines", "learner ranks"), places), *problems):
        if told:
            notice(told)
    return places[0], places[1]
