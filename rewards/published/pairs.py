"""Pairs of truth and answer, bounded in depth."""

from typing import Any

MAX_DEPTH = 64  # levels of objects and lists; all code here, the authors' included, recurses over them

Pair = tuple[Any, Any]  # truth, answer


def checked(truth: Any, answer: Any) -> Pair:
    """The pair, the answer None where it is nested too deep; raises ValueError for such a truth."""
    if _is_too_deep(truth):
        raise ValueError(f"the truth is nested deeper than {MAX_DEPTH} levels")
    return truth, None if _is_too_deep(answer) else answer


def _is_too_deep(value: Any) -> bool:
    containers = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [container for container in containers if isinstance(container, dict | list)]
        if not containers:
            return False
        containers = [
            item
            for container in containers
            for item in (container.values() if isinstance(container, dict) else container)
        ]
    return True
