"""Where the actors of a run sit: what they take together, which GPUs they share, which cores they run on."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.actors import ActorGroup
from cluster.cores import Place, describe_places
from cluster.pinning import plan_places
from cluster.placement import Bundle, Reservation, Seat
from medvie_rl.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The actors of a run, of which none is started, on what is reserved for them."""

    reservation: Reservation
    rollouts: ActorGroup
    rewards: ActorGroup
    learners: ActorGroup


def bundles_of(config: Config) -> tuple[list[Bundle], list[Bundle]]:
    """What learner ranks take, and what rollout engines take. Where each GPU has both, the engines' bundles are for the
    ranks, too."""
    cluster, num_engines, num_ranks = config.cluster, config.rollout.num_workers, config.learner.num_ranks
    gpus_per_engine = config.rollout.tensor_parallel_size if cluster.on_gpus else 0
    if cluster.layout == "colocated":
        cpus = cluster.rollout_cpus + gpus_per_engine * cluster.learner_cpus
        return [], [Bundle(cpus=cpus, gpus=gpus_per_engine)] * num_engines
    rank = Bundle(cpus=cluster.learner_cpus, gpus=1 if cluster.on_gpus else 0)
    return [rank] * num_ranks, [Bundle(cpus=cluster.rollout_cpus, gpus=gpus_per_engine)] * num_engines


def reserve(config: Config, notice: Callable[[str], None]) -> Layout:
    """Room for learner ranks, rollout engines and reward actor: all or none, since two runs that hold a part each would
    wait for each other for ever. Raises ClusterError, saying what is missing."""
    ranks, engines = bundles_of(config)
    bundles = [*ranks, *engines, Bundle(cpus=config.cluster.reward_cpus)]
    seconds = config.cluster.resource_timeout_seconds
    reservation = Reservation(bundles, timeout_seconds=seconds, notice=notice)
    free: dict[Bundle, list[Seat]] = defaultdict(list)
    seats = reservation.seats()
    for index in reservation.by_node():
        free[bundles[index]].append(seats[index])
    # Learner ranks first: they exchange most, so those of a node are next to each other.
    of_ranks, of_engines, of_reward = ([free[bundle].pop(0) for bundle in of] for of in (ranks, engines, bundles[-1:]))
    if config.cluster.layout == "colocated":
        of_ranks, of_engines = _share(of_engines, config)
    return Layout(
        reservation=reservation,
        rollouts=ActorGroup(reservation, of_engines),
        rewards=ActorGroup(reservation, of_reward),
        learners=ActorGroup(reservation, of_ranks),
    )


def _share(seats: Sequence[Seat], config: Config) -> tuple[list[Seat], list[Seat]]:
    """The seats of ranks and engines: on every GPU of an engine a rank."""
    ranks = [
        Seat(bundle=seat.bundle, cpus=config.cluster.learner_cpus, shared_gpus=(gpu,))
        for seat in seats
        for gpu in range(seat.gpus)
    ]
    engines = [
        Seat(bundle=seat.bundle, cpus=config.cluster.rollout_cpus, shared_gpus=tuple(range(seat.gpus)))
        for seat in seats
    ]
    return ranks, engines


def choose_places(
    config: Config, layout: Layout, notice: Callable[[str], None]
) -> tuple[list[Place | None], list[Place | None]]:
    """The cores of every engine and learner rank, as `cluster.pin_cores` says. `notice` is told which, or why none.

    Where no batch is sampled ahead of the learner, engines and ranks take turns on the same cores.
    """
    cluster = config.cluster
    if cluster.pin_cores == "never" or (cluster.pin_cores == "auto" and cluster.on_gpus):
        return [], []
    engine_threads = config.rollout.num_threads * config.rollout.tensor_parallel_size
    sides = [(layout.rollouts, engine_threads), (layout.learners, config.learner.num_threads)]
    places, problems = plan_places(sides, in_turns=config.pipeline_depth == 0)
    for told in (describe_places(("rollout engines", "learner ranks"), places), *problems):
        if told:
            notice(told)
    return places[0], places[1]
