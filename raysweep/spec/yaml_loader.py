"""YAML as it is meant by who writes `lr: 1e-3`."""

from __future__ import annotations

import re

import yaml


class Loader(yaml.SafeLoader):
    """Reads `1e-3` as a number, as YAML 1.2 and JSON do; YAML 1.1 takes it for a text, since it has no dot."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$"), list("-+.0123456789")
)
