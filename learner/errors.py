"""Errors of the learner that callers handle."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be loaded: damaged, or of another policy than the one configured."""


class OutOfMemoryError(RuntimeError):
    """A device's memory does not suffice; the message says what to lower."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint with a file that is missing, changed or half-written; an earlier one may be whole."""

    def __init__(self, folder: object, problem: str) -> None:
        super().__init__(str(folder), problem)

    def __str__(self) -> str:
        return f"checkpoint {self.args[0]} is damaged: {self.args[1]}"


class SuspectError(FloatingPointError):
    """Numbers of an update that must not be trained on; `queries` are those whose responses were being learned from."""

    remedy = ""

    def __init__(self, what: str, queries: tuple[str, ...]) -> None:
        super().__init__(what, queries)
        self.queries = queries

    def __str__(self) -> str:
        return f"{self.args[0]}: queries {', '.join(self.queries)}; {self.remedy}"


class NonFiniteError(SuspectError):
    """A loss or gradient that is not finite."""

    remedy = "look at their documents and rewards, lower learner.learning_rate, or go on from the last checkpoint"


class ParityError(SuspectError):
    """Sampler and learner give tokens of the same response too different logprobs."""

    remedy = (
        "engine and learner do not compute the same policy: compare their dtypes, image processing and weights; where "
        "the difference is rounding, raise rails.max_logprob_difference"
    )
