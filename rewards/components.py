"""The user's own parts of the reward: functions named in the configuration, loaded, called and held to their contract.

    def brevity(request: ScoreRequest, score: Score) -> float:
        return -len(request.response) / 1000

`score` is the built-in score of the response. What the function returns, a finite number, is multiplied by the weight
of the component and added to the reward under the component's name.
"""

import difflib
import importlib
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from rewards.config import ComponentConfig
from rewards.types import Score, ScoreRequest


class ComponentLoadError(ValueError):
    """A component that cannot be imported or called; the message names its key and what to do."""


class ComponentError(RuntimeError):
    """A component raised, or returned no finite number. `detail` is the last line of what went wrong."""

    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A loaded component."""

    name: str
    weight: float
    source: str  # module:function
    function: Callable[[ScoreRequest, Score], Any]


def load_components(configs: Sequence[ComponentConfig]) -> tuple[Component, ...]:
    """Import the functions; modules may lie in the current folder. Raises ComponentLoadError naming the key."""
    if configs and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a console script's path has its own folder instead
    return tuple(
        Component(
            name=config.name,
            weight=config.weight,
            source=config.function,
            function=_load(f"reward.components[{index}].function", config.function),
        )
        for index, config in enumerate(configs)
    )


def add_components(score: Score, request: ScoreRequest, components: Sequence[Component]) -> Score:
    """`score` with what each component adds; raises ComponentError naming component, query and document."""
    parts = dict(score.components)
    for component in components:
        parts[component.name] = _value(component, request, score)
    return replace(score, components=parts, reward=math.fsum(parts.values()))


def _value(component: Component, request: ScoreRequest, score: Score) -> float:
    try:
        returned = component.function(request, score)
    except BaseException as error:  # `sys.exit` in a user's function, too, is an error of that function
        problem = traceback.format_exception_only(error)[-1].strip()
        # The first frame is this one; the text goes along because tracebacks do not cross processes.
        text = "".join(traceback.format_exception(error.with_traceback(_below(error))))
        raise _component_error(component, request, problem, f"\n{text.rstrip()}") from None
    if isinstance(returned, bool) or not isinstance(returned, Real):
        problem = f"returned {returned!r}, expected a number"
    elif not math.isfinite(value := _times(returned, component.weight)):
        problem = f"returned {returned!r}, expected a finite number"
    else:
        return value
    raise _component_error(component, request, problem, "")


def _component_error(component: Component, request: ScoreRequest, problem: str, text: str) -> ComponentError:
    error = ComponentError(
        f"reward component '{component.name}' ({component.source}) failed on query '{request.query_id}' of document "
        f"'{request.document_id}': {problem}{text}"
    )
    error.detail = f"{component.name}: {problem}"
    return error


def _below(error: BaseException) -> Any:
    assert error.__traceback__ is not None
    return error.__traceback__.tb_next


def _times(value: Real, weight: float) -> float:
    try:
        return float(value) * weight
    except OverflowError:  # a whole number beyond the floats
        return math.inf


def _load(key: str, source: str) -> Callable[[ScoreRequest, Score], Any]:
    module_name, _, function_name = source.partition(":")
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:  # whatever importing somebody's module may raise
        problem = traceback.format_exception_only(error)[-1].strip()
        is_absent = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        text = "" if is_absent else f"\n{traceback.format_exc().rstrip()}"
        raise ComponentLoadError(
            f"{key}: module '{module_name}' cannot be imported ({problem}). It must be importable from the folder that "
            f"the run is started in (here {os.getcwd()}); `ray job submit --working-dir .` ships that folder to the "
            f"nodes{text}"
        ) from None
    function = getattr(module, function_name, None)
    if function is None:
        near = difflib.get_close_matches(function_name, dir(module), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ComponentLoadError(f"{key}: module '{module_name}' has no function '{function_name}'{hint}")
    if not callable(function):
        raise ComponentLoadError(
            f"{key}: '{source}' is a {type(function).__name__}, expected a function of the request and its score, "
            "def f(request: ScoreRequest, score: Score) -> float"
        )
    return function  # type: ignore[no-any-return]
