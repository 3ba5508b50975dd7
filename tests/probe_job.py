"""Probe: a job that looks at where it runs and ends as it is told."""

import json
import os
import sys
import time
from pathlib import Path

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--code", default=0)
@click.option("--hold", is_flag=True)
@click.argument("rest", nargs=-1)
def main(code: int, hold: bool, rest: tuple[str, ...]) -> None:
    files = sorted(str(path) for path in Path().rglob("*") if path.is_file())
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_bytes()
    seen = {
        "files": files,
        "token_uploaded": any(token in Path(file).read_bytes() for file in files),
        "pid": os.getpid(),
        "arguments": sys.argv[1:],
        "storage": os.environ["RAYSWEEP_STORAGE"],
    }
    print("seen", json.dumps(seen), flush=True)
    if hold:
        import ray

        ray.init(logging_level="ERROR")
        print("worker", ray.get(ray.remote(lambda: os.getpid()).remote()), flush=True)
        time.sleep(600)
    sys.exit(code)


if __name__ == "__main__":
    main()
