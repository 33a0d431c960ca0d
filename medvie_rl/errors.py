"""Errors that a user can mend: shown without a traceback."""


class UserError(ValueError):
    """Wrong input; the message names the file, the key or the document, what was expected and what to do."""


class ConfigError(UserError):
    """A configuration or dataset that cannot be used."""
