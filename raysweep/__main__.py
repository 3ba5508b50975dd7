"""`python -m raysweep`."""

from raysweep.cli import cli

if __name__ == "__main__":
    cli()
