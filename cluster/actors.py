"""Starting worker classes as Ray actors on a placement group, and waiting for them, saying for what."""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import (
    ActorUnschedulableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from cluster.cores import Place, pin_here
from cluster.errors import ClusterError, DeadActorError
from cluster.placement import Reservation, Seat

_FINISH_SECONDS = 10.0
_DEATH_SECONDS = 30.0  # Ray takes a node for dead some 15 s after it was last heard of
_DEATHS = (RayActorError, OutOfMemoryError, RuntimeEnvSetupError, ActorUnschedulableError)


class ActorGroup:
    """Actors of one kind that live and die together in the seats of a reservation."""

    def __init__(self, reservation: Reservation, seats: Sequence[Seat] | None = None) -> None:
        """By default the actors take all that was reserved, one a bundle."""
        self._reservation = reservation
        self._seats = reservation.seats() if seats is None else list(seats)
        self._start_one: Callable[[int], Any]
        self.actors: list[Any] = []

    def start(
        self,
        worker_class: type,
        arguments: Sequence[Sequence[Any]],
        environment: Mapping[str, str],
        places: Sequence[Place | None] = (),
    ) -> None:
        """Start one actor a seat with its own arguments; `environment` is set before the process starts, and those
        that have a place work there (see cluster/pinning.py)."""
        if len(arguments) != len(self._seats):
            raise ValueError(f"expected arguments for {len(self._seats)} actors, got {len(arguments)}")

        def start_one(index: int) -> Any:
            seat = self._seats[index]
            variables = dict(environment) | self._reservation.environment(seat)
            options = self._reservation.options(seat) | {"runtime_env": {"env_vars": variables}}
            place = places[index] if places else None
            actor_class = _placed(worker_class, place) if place else worker_class
            return ray.remote(actor_class).options(**options).remote(*arguments[index])

        self._start_one = start_one
        self.actors = [start_one(index) for index in range(len(self._seats))]

    def restart(self, index: int) -> Any:
        """End an actor, also one that does not answer, and start another in its place; returns the new one.

        Where its node is gone, Ray reserves what it needs on another one that has it; the actor waits for that. Until
        Ray has noticed that the node is gone (seconds), a new actor dies as the old one did.
        """
        ray.kill(self.actors[index])
        self.actors[index] = self._start_one(index)
        return self.actors[index]

    def shares_gpus(self, index: int) -> bool:
        """Whether others use the GPUs of an actor, too."""
        return bool(self._seats[index].shared_gpus)

    def missing(self, index: int) -> str:
        """What an actor waits for whose node is gone, while no other has it; empty where the actor has a node."""
        return self._reservation.missing(self._seats[index].bundle)

    def nodes(self) -> list[str]:
        """Ray's id of the node of every actor."""
        of_bundle = self._reservation.nodes()
        return [of_bundle[seat.bundle] for seat in self._seats]

    def beside(self, index: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """Reference to what a function returns that runs on the node of an actor, in a process of its own."""
        return self._reservation.beside(self._seats[index].bundle, function, *arguments)

    def meeting_point(self, port: int) -> tuple[str, int]:
        """(address, port) on the node of the first actor; port 0 picks a free one, a taken one raises ClusterError."""
        address, found, problem = ray.get(self.beside(0, _probe_port, port))
        if problem:
            raise ClusterError(
                f"cluster.learner_port: port {port} is in use on {address} ({problem}). Name another one, or 0 for any "
                "free port"
            )
        return address, found

    def close(self, finish: str = "") -> None:
        """End the actors; what they sat on stays reserved. The method `finish` of each, if named, is called before, to
        end what the actor itself has started; one that does not answer is ended all the same."""
        if finish:
            pending = [getattr(actor, finish).remote() for actor in self.actors]
            ray.wait(pending, num_returns=len(pending), timeout=_FINISH_SECONDS)
        for actor in self.actors:
            ray.kill(actor)
        self.actors.clear()


def _placed(worker_class: type, place: Place) -> type:
    """The class, whose process moves to its place before anything of the worker runs.

    Libraries count the cores that they may use when they are loaded, and their threads inherit them. An actor that
    Ray starts on another node, since its own is gone, may run anywhere there.
    """

    start: Any = worker_class.__init__  # type: ignore[misc]  # of this very class

    def __init__(self: Any, *arguments: Any) -> None:
        if ray.get_runtime_context().get_node_id() == place.node:
            pin_here(place.cores)
        start(self, *arguments)

    return type(worker_class.__name__, (worker_class,), {"__init__": __init__, "__module__": worker_class.__module__})


def _probe_port(port: int) -> tuple[str, int, str]:
    address = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError as error:
            return address, port, str(error.strerror)
        return address, int(probe.getsockname()[1]), ""


def share(value: Any) -> Any:
    """A reference to a value that lies in the object store once, however many actors are given it."""
    return ray.put(value)


@dataclass(frozen=True, slots=True)
class Pending:
    """Actor calls that were begun."""

    references: Sequence[Any]
    what: str  # is waited for

    def result(self) -> list[Any]:
        """Wait for them, see `wait_for`."""
        return wait_for(self.references, self.what)


def wait_for(references: Sequence[Any], what: str, *, notice_seconds: float = 60.0) -> list[Any]:
    """The results of actor calls, in order. Says what it waits for every `notice_seconds`.

    An error of an actor's method is raised as it was raised there, with the actor's traceback as its cause. An actor
    that died, or could not start, raises DeadActorError with the reason that Ray gives; so does an error of one that
    lives where another is found dead then: what they do together fails in all of them.
    """
    pending, results = list(references), dict[Any, Any]()  # each is read once: that takes a copy
    started = said = time.monotonic()
    while pending:
        ready, pending = ray.wait(pending, num_returns=1, timeout=notice_seconds)
        said = say_waiting(what, started, said, num_pending=len(pending), notice_seconds=notice_seconds)
        for reference in ready:  # at once: when one rank has died, the others wait for it for ever
            try:
                results[reference] = outcome(reference)
            except ClusterError:
                raise
            except RuntimeError:  # which is what collective calls raise
                _raise_death(pending)
                raise
    return [results[reference] for reference in references]


def _raise_death(references: Sequence[Any]) -> None:
    """Raise DeadActorError if one of the actors that were called is dead, or Ray finds out within some time."""
    deadline = time.monotonic() + _DEATH_SECONDS
    pending = list(references)
    while pending and time.monotonic() < deadline:
        ready, pending = ray.wait(pending, num_returns=1, timeout=1)
        for reference in ready:
            try:
                outcome(reference)
            except DeadActorError:
                raise
            except Exception:  # the first one is told
                continue


def say_waiting(what: str, started: float, said: float, *, num_pending: int, notice_seconds: float = 60.0) -> float:
    """Print what is waited for since `started` if it was last `said` longer ago than that; returns when it was said."""
    now = time.monotonic()
    if not num_pending or now - said < notice_seconds:
        return said
    print(f"waiting for {what}: {num_pending} still to come after {now - started:.0f} s", flush=True)
    return now


def outcome(reference: Any) -> Any:
    """The result of an actor call. An error of the method is raised as it was raised there, with the actor's traceback
    as its cause; DeadActorError, with Ray's reason, for an actor that died or could not start."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
    except _DEATHS as error:
        raise DeadActorError(f"an actor died: {error}", f"an actor died: {_reason(error)}") from error


def _reason(error: RayError) -> str:
    """The line of Ray's message that says why: behind a traceback and ids, but before what it says about memory."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0 if isinstance(error, OutOfMemoryError) else -1]
