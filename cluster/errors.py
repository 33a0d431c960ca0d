"""What goes wrong with the machine or the cluster, in words that a user can act on."""


class ClusterError(RuntimeError):
    """Resources that are missing, taken or unreachable; the message says which and what to do."""


class GangError(ClusterError):
    """The actors of a run cannot go on together, for what has happened to one of them; started anew they could."""


class DeadActorError(GangError):
    """An actor that has died, could not start, or did not answer in time. `reason` is one line of the message."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message
