"""Keys and items of a YAML file against the dataclasses that it is read into; errors say where and what is meant."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvie_rl.errors import ConfigError

_NO_HINTS: Mapping[str, str] = {}
T = TypeVar("T")


def check_keys(source: str, content: Any, config_class: type, hints: Mapping[str, str] = _NO_HINTS) -> None:
    """Raise ConfigError for a key that the dataclass does not have, naming the nearest one or what `hints` say of it,
    and for an item of a list that its dataclass refuses."""
    plain = OmegaConf.to_container(content)
    if not isinstance(plain, dict):
        raise ConfigError(f"{source}: expected keys with values, got {type(plain).__name__}")
    for key in _unknown_keys(plain, config_class, ""):
        if key in hints:
            raise ConfigError(f"{source}: {key}: {hints[key]}")
        known = list(all_keys(config_class))
        near = difflib.get_close_matches(re.sub(r"\[\d+\]", "[]", key), known, n=1, cutoff=0.5)
        near = near or difflib.get_close_matches(key.split(".")[-1], [k.split(".")[-1] for k in known], n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"{source}: unknown key '{key}'{hint}")
    _check_items(source, plain, config_class, "")


def to_dataclass(source: str, config_class: type[T], *contents: Any) -> T:
    """The dataclass that contents amount to, later ones before earlier; raises ConfigError that names `source` for a
    value of the wrong type, and for what the dataclass refuses."""
    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config_class), *contents))
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
        raise ConfigError(f"{source}: {where}{str(error).splitlines()[0]}") from error
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error
    assert isinstance(found, config_class)
    return found


def all_keys(config_class: type, prefix: str = "") -> Iterator[str]:
    """Every key of a dataclass and of those in it, parents first; `[]` stands behind a list of dataclasses."""
    for item in fields(config_class):
        yield f"{prefix}{item.name}"
        inner, is_list = _nested(item.type)
        if inner is not None:
            yield from all_keys(inner, f"{prefix}{item.name}{'[]' if is_list else ''}.")


def _check_items(source: str, content: Mapping[Any, Any], config_class: type, prefix: str) -> None:
    """Types in lists of dataclasses, about which OmegaConf would not say in which item they are wrong."""
    for item in fields(config_class):
        inner, is_list = _nested(item.type)
        if inner is None or item.name not in content:
            continue
        key, value = f"{prefix}{item.name}", content[item.name]
        if not is_list:
            if isinstance(value, dict):
                _check_items(source, value, inner, f"{key}.")
            continue
        expected = ", ".join(known.name for known in fields(inner))
        if not isinstance(value, list):
            raise ConfigError(f"{source}: {key}: expected a list, each item with {expected}, got {value!r}")
        for index, part in enumerate(value):
            try:
                merged = OmegaConf.merge(OmegaConf.structured(inner), part)
            except (OmegaConfBaseException, ValueError, TypeError) as error:
                problem = str(error).splitlines()[0]
                raise ConfigError(f"{source}: {key}[{index}]: expected {expected}, got {part!r} ({problem})") from error
            try:
                OmegaConf.to_object(merged)
            except ValueError as error:
                raise ConfigError(f"{source}: {key}[{index}]: {error}") from error


def _unknown_keys(content: Mapping[Any, Any], config_class: type, prefix: str) -> Iterator[str]:
    known = {item.name: item.type for item in fields(config_class)}
    for key, value in content.items():
        if str(key) not in known:
            yield f"{prefix}{key}"
            continue
        inner, is_list = _nested(known[str(key)])
        parts = list(enumerate(value)) if is_list and isinstance(value, list) else [(-1, value)]
        for index, part in parts:
            if inner is not None and isinstance(part, dict):
                yield from _unknown_keys(part, inner, f"{prefix}{key}{f'[{index}]' if index >= 0 else ''}.")


def _nested(annotation: Any) -> tuple[type | None, bool]:
    """The dataclass that a key holds, if it holds one, and whether it holds a list of it."""
    of_items = get_args(annotation)
    is_list = getattr(annotation, "__origin__", None) is list
    inner = of_items[0] if is_list else annotation
    return (inner, is_list) if isinstance(inner, type) and is_dataclass(inner) else (None, False)
