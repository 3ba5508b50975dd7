"""A requested job: a strategy with its flags, to be run as a job of the cluster or as a RayJob."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class JobRequest:
    """A strategy and its flags.

    Attributes:
        strategy: a file of jobs/, without .py.
        name: the sweep's, --name.
        arguments: other flags of the job, passed on unchanged.
        task: its --task.
        storage: its --storage.
        data: its --data.
        variables: environment variables of its processes, see `variables`; their values may be secrets.
    """

    strategy: str
    name: str
    arguments: tuple[str, ...] = ()
    task: str | None = None
    storage: str | None = None
    data: str | None = None
    variables: dict[str, str | None] = field(default_factory=dict, repr=False)

    @property
    def command(self) -> list[str]:
        """The job's command line, to be run in the project's folder."""
        return ["python", f"jobs/{self.strategy}.py", *self.flags]

    @property
    def flags(self) -> list[str]:
        """All flags of the job."""
        flags = {"--task": self.task, "--name": self.name, "--storage": self.storage, "--data": self.data}
        given = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
        return [*given, *self.arguments]

    def from_here(self, with_data: bool) -> JobRequest:
        """The request with an absolute storage and, `with_data`, absolute data: a job runs in another folder."""
        return replace(self, storage=absolute(self.storage), data=absolute(self.data) if with_data else self.data)


def absolute(place: str | None) -> str | None:
    """A relative folder as an absolute one; URLs are not changed."""
    return place if place is None or "://" in place else str(Path(place).expanduser().absolute())
