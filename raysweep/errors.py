"""What can go wrong, as types; each has the exit code of the command that meets it.

RaysweepError
├── BadInput            what was asked cannot be done: nothing was started            exit 2
├── SweepFailed         the sweep ran, and trials failed beyond what was allowed      exit 1
├── ClusterError        the Ray cluster could not be started, reached or stopped      exit 1
│   └── Unreachable     it does not answer now; whether it is there, and how it is, is not known
└── StorageError        the storage refused, or is not reachable                      exit 1
    ├── Unavailable     it does not answer now, and may do so later
    ├── NotFound        there is nothing under that key
    └── Corrupt         something is there, but it is not what was written
"""


class RaysweepError(Exception):
    """Base of everything this package raises on purpose."""

    exit_code = 1


class BadInput(RaysweepError):
    """What was asked cannot be done, and nothing was started.

    Args:
        problems: one sentence each: the argument in backticks, the value, the rule and the fix.
    """

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SweepFailed(RaysweepError):
    """The sweep ran, and trials failed beyond what was allowed."""


class ClusterError(RaysweepError):
    """The Ray cluster could not be started, reached or stopped."""


class Unreachable(ClusterError):
    """It does not answer now: whether it is there, and how it is, is not known. It may answer later."""


class StorageError(RaysweepError):
    """The storage refused, or is not reachable."""


class Unavailable(StorageError):
    """The storage does not answer, or says that it cannot now: the same request may succeed later."""


class NotFound(StorageError):
    """There is nothing under that key."""


class Corrupt(StorageError):
    """Something is there, but it is not what was written: its size or hash differs."""
