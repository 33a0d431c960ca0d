"""Errors that a user can mend: shown without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input; the message names the file, the key or the document, what was expected and what to do."""


class ConfigError(UserError):
    """A configuration or dataset that cannot be used."""


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The end of a message about an unknown name: the nearest known one, or nothing if none is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""
