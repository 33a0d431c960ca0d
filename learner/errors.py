"""Errors of the learner that callers handle."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be loaded: missing, damaged, or written for another layout."""
