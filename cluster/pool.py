"""Interchangeable actors of which any may die or hang: the others take over its work, and another takes its place."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ray

from cluster.actors import ActorGroup, outcome, say_waiting
from cluster.config import ClusterConfig
from cluster.errors import ClusterError, DeadActorError

Call = Callable[[Any, Sequence[Any]], Any]
"""(actor, its share of the items) -> reference to a list with one result an item."""

_POLL_SECONDS = 1.0


class WorkerPool:
    """The workers of an actor group. Work is split statically over those that live when it is submitted."""

    def __init__(
        self,
        group: ActorGroup,
        config: ClusterConfig,
        *,
        what: str,
        prepare: Callable[[Any], None],
        notice: Callable[[str], None],
    ) -> None:
        """`prepare` brings a worker that took another's place to where the others are, before it gets any work."""
        self._group, self._config, self._what = group, config, what
        self._prepare, self._notice = prepare, notice
        self._live: dict[int, Any] = dict(enumerate(group.actors))
        self._starting: dict[int, Any] = {}  # references that are there when the worker has started
        self._num_lost = 0
        self._num_at_work = 0

    @property
    def live(self) -> list[Any]:
        """The workers that take work now."""
        return list(self._live.values())

    @property
    def num_live(self) -> int:
        """Workers that take work now."""
        return len(self._live)

    @property
    def num_lost(self) -> int:
        """Workers that died or hung since the start of the run."""
        return self._num_lost

    def submit(self, items: Sequence[Any], call: Call) -> "Work":
        """Let the workers do `call` on contiguous shares of the items; does not wait for them."""
        self._check_health()
        self._admit()
        work = Work(self, call, len(items))
        start = 0
        for (index, actor), share in zip(list(self._live.items()), _split(items, len(self._live)), strict=True):
            if share:
                work.give(index, actor, range(start, start + len(share)), share)
            start += len(share)
        return work

    def broadcast(self, call: Callable[[Any], Any], what: str) -> list[Any]:
        """Do `call` on every worker that lives; the results of those that still do afterwards, at least one."""
        while True:
            self._admit()
            results = self._ask_all(call, self._config.call_seconds * (1 + self._num_at_work), what)
            if results:
                return results

    def lose(self, index: int, actor: Any, why: str) -> None:
        """Give up a worker, and start another in its place."""
        if self._live.get(index) is not actor:
            return  # it was given up before, for another call
        del self._live[index]
        self._num_lost += 1
        if self._num_lost > self._config.max_lost_workers:
            raise ClusterError(
                f"{self._num_lost} {self._what}s were lost, more than cluster.max_lost_workers = "
                f"{self._config.max_lost_workers}; the last one: {why}. Go on with --resume when the cause is found"
            )
        self._notice(
            f"{self._what} {index} is lost ({why}); starting another, going on with "
            f"{len(self._live)} of {len(self._group.actors)}"
        )
        self._starting[index] = self._group.restart(index).__ray_ready__.remote()

    def _admit(self) -> None:
        """Take in the workers that have started meanwhile; wait for one where none is left."""
        waits_until = time.monotonic() + self._config.resource_timeout_seconds
        while self._starting:
            timeout = 0.0 if self._live else _POLL_SECONDS
            ready, _ = ray.wait(list(self._starting.values()), num_returns=1, timeout=timeout)
            for index in [index for index, reference in self._starting.items() if reference in ready]:
                self._take_in(index, self._starting.pop(index))
            if self._live and not ready:
                return
            if not self._live and time.monotonic() > waits_until:
                break
        if not self._live:
            raise ClusterError(
                f"no {self._what} is left, and none could be started within cluster.resource_timeout_seconds = "
                f"{self._config.resource_timeout_seconds:g}; look at the nodes, then go on with --resume"
            )

    def _take_in(self, index: int, started: Any) -> None:
        actor = self._group.actors[index]
        self._live[index] = actor
        try:
            outcome(started)
            self._prepare(actor)
        except DeadActorError as error:
            self.lose(index, actor, str(error))
        else:
            self._notice(f"{self._what} {index} is back")

    def _check_health(self) -> None:
        """Ask every worker for a sign of life, unless some are at work: they would answer behind it."""
        if not self._num_at_work:
            self._ask_all(lambda actor: actor.__ray_ready__.remote(), self._config.health_seconds, "a sign of life")

    def _ask_all(self, call: Callable[[Any], Any], seconds: float, what: str) -> list[Any]:
        """Results of a call of every worker that lives; those without one in that time are lost."""
        deadline = time.monotonic() + seconds
        asked = {index: (actor, call(actor)) for index, actor in self._live.items()}
        results = []
        for index, (actor, reference) in asked.items():
            try:
                results.append(self._result_by(reference, deadline, what))
            except DeadActorError as error:
                self.lose(index, actor, str(error))
        return results

    def _result_by(self, reference: Any, deadline: float, what: str) -> Any:
        """Raises DeadActorError when the actor has died, or has not answered by the deadline."""
        started = time.monotonic()
        ready, _ = ray.wait([reference], timeout=max(0.0, deadline - started))
        if not ready:
            raise DeadActorError(f"it did not answer within {time.monotonic() - started:.0f} s ({what})")
        return outcome(reference)

    # --- what work tells its pool ------------------------------------------------------------------------------------

    def began(self) -> float:
        """A share of some work was given out; returns by when it must be done."""
        self._num_at_work += 1
        return time.monotonic() + self._config.call_seconds * self._num_at_work

    def ended(self) -> None:
        """A share of some work is done, or its worker is lost."""
        self._num_at_work -= 1

    def another(self, number: int) -> tuple[int, Any]:
        """(index, actor) of a worker that lives, for the work of one that was lost."""
        self._admit()
        indices = sorted(self._live)
        index = indices[number % len(indices)]
        return index, self._live[index]


@dataclass(frozen=True, slots=True)
class _Share:
    index: int
    actor: Any
    places: range
    items: Sequence[Any]
    deadline: float


class Work:
    """Items that the workers of a pool are busy with."""

    def __init__(self, pool: WorkerPool, call: Call, num_items: int) -> None:
        self._pool, self._call = pool, call
        self._results: list[Any] = [None] * num_items
        self._shares: dict[Any, _Share] = {}  # by reference

    def give(self, index: int, actor: Any, places: range, items: Sequence[Any]) -> None:
        """Let a worker do the items that lie at these places."""
        reference = self._call(actor, items)
        self._shares[reference] = _Share(index, actor, places, items, self._pool.began())

    def result(self) -> list[Any]:
        """Wait for the work; the results come in the order of the items.

        What a lost worker had to do is done by another. An error that a worker raises is raised as it was there.
        """
        started = said = time.monotonic()
        while self._shares:
            ready, _ = ray.wait(list(self._shares), num_returns=1, timeout=_POLL_SECONDS)
            for reference in ready:
                share = self._shares.pop(reference)
                self._pool.ended()
                try:
                    self._results[share.places.start : share.places.stop] = outcome(reference)
                except DeadActorError as error:
                    self._hand_over(share, str(error))
            for reference, share in list(self._shares.items()):
                if time.monotonic() > share.deadline:
                    del self._shares[reference]
                    self._pool.ended()
                    self._hand_over(share, "it did not finish its work by the deadline (cluster.call_seconds)")
            said = say_waiting("rollouts", started, said, num_pending=len(self._shares))
        return self._results

    def _hand_over(self, share: _Share, why: str) -> None:
        self._pool.lose(share.index, share.actor, why)
        index, actor = self._pool.another(share.index)
        self.give(index, actor, share.places, share.items)


def _split(items: Sequence[Any], num_parts: int) -> list[Sequence[Any]]:
    """Contiguous parts whose sizes differ by at most one."""
    size, longer = divmod(len(items), num_parts)
    bounds = [size * part + min(part, longer) for part in range(num_parts + 1)]
    return [items[start:end] for start, end in pairwise(bounds)]
