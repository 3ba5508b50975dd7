"""Prints one package of uv.lock as a requirement with its hashes, which pip then checks.

python3 docker/pinned.py uv.lock uv

Standard library only: it runs before anything is installed.
"""

import sys
import tomllib
from pathlib import Path


def requirement(lock: Path, name: str) -> str:
    """`name==version --hash=… --hash=…` of every wheel that the lock has for the package."""
    packages = tomllib.loads(lock.read_text())["package"]
    package = next(each for each in packages if each["name"] == name)
    return " ".join([f"{name}=={package['version']}", *(f"--hash={wheel['hash']}" for wheel in package["wheels"])])


if __name__ == "__main__":
    print(requirement(Path(sys.argv[1]), sys.argv[2]))
