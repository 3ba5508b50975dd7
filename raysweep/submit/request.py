"""A requested job: a strategy with its flags, to be run as a job of the cluster or as a RayJob."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class JobRequest:
    """A strategy and its flags.

    Attributes:
        strategy: a file of jobs/, the project's or the kit's, without .py.
        name: the sweep's, --name.
        arguments: other flags of the job, passed on unchanged.
        task: its --task.
        storage: its --storage.
        data: its --data.
        points: its --points.
        script: flags of `driver.wrap`, if a script is run instead of a task.
        space: its --space.
        module: what is run instead of the strategy's file, such as `raysweep.driver.verify`.
        requirements: what Ray installs for it, see `requirements`.
        variables: environment variables of its processes, see `variables`; their values may be secrets.
    """

    strategy: str
    name: str
    arguments: tuple[str, ...] = ()
    task: str | None = None
    storage: str | None = None
    data: str | None = None
    points: str | None = None
    script: tuple[str, ...] = ()
    space: str | None = None
    module: str | None = None
    requirements: tuple[str, ...] = ()
    variables: dict[str, str | None] = field(default_factory=dict, repr=False)

    def command(self, project: Path) -> list[str]:
        """The job's command line, to be run in the project's folder: its own strategy, or the kit's in the package."""
        if self.script:
            script = [*self.script, "--space", self.space or ""]
            return ["python", "-m", "raysweep.driver.wrap", self.strategy, *script, *self.flags]
        if self.module:
            return ["python", "-m", self.module, *self.flags]
        own = f"jobs/{self.strategy}.py"
        program = [own] if (project / own).is_file() else ["-m", f"raysweep.jobs.{self.strategy}"]
        return ["python", *program, *self.flags]

    @property
    def flags(self) -> list[str]:
        """All flags of the job."""
        flags = {"--task": self.task, "--name": self.name, "--storage": self.storage, "--data": self.data}
        flags["--points"] = self.points
        given = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
        return [*given, *self.arguments]

    def from_here(self, project: Path, on_this_machine: bool) -> JobRequest:
        """The request as a job in another folder needs it: with an absolute storage, and data and points that it finds.

        On this machine they are absolute; elsewhere, what is in the project comes along, and is relative to it.
        """
        found = absolute if on_this_machine else lambda path: _in_project(path, project)
        return replace(
            self,
            storage=absolute(self.storage),
            data=found(self.data),
            points=found(self.points),
            space=found(self.space),
        )


def absolute(place: str | None) -> str | None:
    """A relative folder as an absolute one; URLs are not changed."""
    return place if place is None or "://" in place else str(Path(place).expanduser().absolute())


def _in_project(path: str | None, project: Path) -> str | None:
    """A relative path of this folder as one of the project's; any other as it is."""
    if path is None or "://" in path or not (here := Path(path).absolute()).is_relative_to(project):
        return path
    return here.relative_to(project).as_posix()
