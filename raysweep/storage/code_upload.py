"""Packs the code of a job as one archive: the project's files, by Ray's own rules, and the kit in this version.

What cannot be packed is refused before anything is sent, by name.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click

from raysweep import kit, ray_private, temporary
from raysweep.errors import BadInput
from raysweep.storage import Storage

NEVER_PACKED = ("/.raysweep/", "/runs/")  # in addition to .rayignore, and to what Ray leaves out
CODE = (".py", ".j2", ".css", ".js")  # the last three are of the page of a sweep
NO_CODE = ("docker", "k8s")  # folders of the kit that no job needs
MIB = 2**20
SHOWN = 8  # of what is too large, or cannot be walked through


@contextlib.contextmanager
def packed(project: Path) -> Iterator[Path]:
    """The archive for Ray's Jobs API; it is removed at the end.

    Raises:
        BadInput: the project cannot be packed, or is larger than the Jobs API takes.
    """
    with temporary.folder("code") as folder:
        package = folder / "code.zip"
        _pack(project, package, parent=False, limit=ray_private.upload_limit())
        yield package


def upload(project: Path, place: Storage) -> str:
    """Stores the archive as `code/<hash>.zip`, for nodes to download; returns its URL.

    Raises:
        BadInput: the project cannot be packed.
    """
    with temporary.folder("code") as folder:
        package = folder / "code.zip"
        _pack(project, package, parent=True, limit=None)  # of an archive in a store, Ray removes an only folder
        data = package.read_bytes()
    if len(data) > ray_private.upload_limit():
        click.echo(f"warning: the code has {len(data) / MIB:.0f} MiB, and every node downloads it", err=True)
    key = f"code/{hashlib.sha256(data).hexdigest()[:16]}.zip"
    place.put(key, data)
    return f"{place.url}/{key}"


def _pack(project: Path, package: Path, parent: bool, limit: int | None) -> None:
    """A checkout of the kit brings all that a job needs; any other project is given it, as the folder `raysweep`."""
    own = {} if kit.is_checkout(project) else _kit_files()
    # A job that packs itself again has the kit already, and the project's .gitignore is not for that.
    has_kit = own and (project / "raysweep" / "__init__.py").is_file()
    excludes = (*NEVER_PACKED, "/raysweep/") if has_kit else NEVER_PACKED
    sizes = _survey(project, excludes)
    _refuse_large(project, sizes, sum(sizes.values()), limit)
    ray_private.pack(project, package, excludes, parent)
    with zipfile.ZipFile(package, "a", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for name, path in own.items():
            archive.write(path, f"{project.name}/{name}" if parent else name)
    _refuse_large(project, sizes, package.stat().st_size, limit)


def _kit_files() -> dict[str, Path]:
    """The kit's code by its name in the archive: as a wheel has it, wherever it is here."""
    every = sorted(path for path in kit.PACKAGE.rglob("*.*") if path.suffix in CODE)
    files = {path.relative_to(kit.PACKAGE): path for path in every}
    if kit.HOME != kit.PACKAGE:
        for folder in ("jobs", "tasks"):
            files |= {path.relative_to(kit.HOME): path for path in sorted((kit.HOME / folder).glob("*.py"))}
    return {f"raysweep/{name.as_posix()}": path for name, path in files.items() if name.parts[0] not in NO_CODE}


class _Unpackable(Exception):
    """A folder that cannot be walked through: the walk begins again without it."""


def _survey(project: Path, excludes: tuple[str, ...]) -> dict[Path, int]:
    """The files that would be packed, with their sizes in bytes.

    Raises:
        BadInput: some of them cannot be, by name.
    """
    sizes: dict[Path, int] = {}
    problems: dict[Path, str] = {}

    def visit(path: Path) -> None:
        if problem := _problem(path, project):
            name = path.relative_to(project).as_posix()
            problems[path] = f"`{name}` {problem}: remove it, or write /{name} into .rayignore"
            if path.is_dir():
                raise _Unpackable
        elif path.is_file():
            sizes[path] = path.stat().st_size

    while len(problems) < SHOWN:
        try:
            ray_private.travel(project, excludes, problems.__contains__, visit)
            break
        except _Unpackable:
            sizes.clear()
        except PermissionError as error:  # Ray looks for ignore files in every folder, also in an ignored one
            folder = Path(error.filename).parent
            problems[folder] = (
                f"`{folder.relative_to(project).as_posix()}` cannot be entered: allow it, or move it away"
            )
            break
    if problems:
        raise BadInput(*problems.values())
    return sizes


def _problem(path: Path, project: Path) -> str | None:
    """Why a file or a folder of the project cannot be packed."""
    try:
        path.name.encode()
        if path.is_symlink() and (problem := _link_problem(path, project)):
            return problem
        if path.is_dir():
            os.scandir(path).close()
        elif path.is_file():
            path.open("rb").close()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _link_problem(link: Path, project: Path) -> str | None:
    """Ray leaves out a link to nothing without a word, and follows one into a circle."""
    try:
        target = link.resolve(strict=True)
    except FileNotFoundError:
        return f"is a link to {link.readlink()}, which does not exist"
    except (RuntimeError, OSError):
        return f"is a link to {link.readlink()}, which leads back to it"
    real = link.parent.resolve()
    way = [each.resolve() for each in link.parents if each.is_relative_to(project)]
    return f"is a link to {link.readlink()}, a folder that it is in" if target in (real, *real.parents, *way) else None


def _refuse_large(project: Path, sizes: dict[Path, int], size: int, limit: int | None) -> None:
    """Names what is large enough to bring the archive below the limit, as lines for .rayignore."""
    if limit is None or size < limit:
        return
    lines, left = [], size
    for name, part in _parts(project, sizes).most_common(SHOWN):
        lines.append(f"{part / MIB:10.1f} MiB  /{name}")
        left -= part
        if left < limit / 2:
            break
    raise BadInput(
        f"{project} has {size / MIB:.0f} MiB to send, and the Jobs API takes less than {limit / MIB:.0f} MiB:"
        " write what the job does not need into .rayignore (data go to the storage: `raysweep upload`); the largest are"
        + "".join(f"\n{line}" for line in lines)
    )


def _parts(project: Path, sizes: dict[Path, int]) -> collections.Counter[str]:
    """Bytes of each folder without any Python, as a whole, and of each file beside Python."""
    with_code = {folder for path in sizes if path.suffix == ".py" for folder in path.parents}
    parts: collections.Counter[str] = collections.Counter()
    for path, size in sizes.items():
        inside = [each for each in reversed(path.parents) if each.is_relative_to(project) and each != project]
        whole = next((folder for folder in inside if folder not in with_code), None)
        parts[f"{whole.relative_to(project).as_posix()}/" if whole else path.relative_to(project).as_posix()] += size
    return parts
