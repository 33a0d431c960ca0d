"""Errors of the learner that callers handle."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be loaded: damaged, or of another policy than the one configured."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint with a file that is missing, changed or half-written; an earlier one may be whole."""

    def __init__(self, folder: object, problem: str) -> None:
        super().__init__(str(folder), problem)

    def __str__(self) -> str:
        return f"checkpoint {self.args[0]} is damaged: {self.args[1]}"


class NonFiniteError(FloatingPointError):
    """A loss or gradient that is not finite; `queries` are those whose responses were being learned from."""

    def __init__(self, what: str, queries: tuple[str, ...]) -> None:
        super().__init__(what, queries)
        self.queries = queries

    def __str__(self) -> str:
        return (
            f"{self.args[0]}: queries {', '.join(self.queries)}; look at their documents and rewards, lower "
            "learner.learning_rate, or go on from the last checkpoint"
        )
