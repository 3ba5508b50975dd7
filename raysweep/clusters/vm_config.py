"""cluster.yaml, the file for `ray up`: reads it, and checks more than Ray does before it starts machines."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from raysweep import ray_private
from raysweep.errors import BadInput

FILE = "cluster.yaml"
Config = dict[str, Any]


def read(path: Path) -> Config:
    """The configuration as in the file.

    Raises:
        BadInput: it cannot be read as a YAML mapping.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise BadInput(f"{path} is not a mapping")
    return config


def problems(config: Config) -> list[str]:
    """Problems found with Ray's schema, and with EC2's model of RunInstances for each `node_config`. Needs no network.

    Ray's schema does not cover `node_config`: a wrong name there would show up only when a machine starts, or never.
    """
    return _of_ray(config) + [problem for name in _types(config) for problem in _of_ec2(name, _types(config)[name])]


def _types(config: Config) -> Config:
    types = config.get("available_node_types")
    return types if isinstance(types, dict) else {}


def _of_ray(config: Config) -> list[str]:
    import jsonschema

    try:
        ray_private.check_cluster_config(config)
    except jsonschema.ValidationError as error:
        return [f"{'.'.join(map(str, error.absolute_path)) or 'cluster.yaml'}: {error.message}"]
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, AssertionError) as error:
        return [f"{FILE}: {error}"]
    return []


def _of_ec2(name: str, node_type: Any) -> list[str]:
    from botocore.validate import ParamValidator

    # Ray adds the counts itself.
    parameters = {"MinCount": 1, "MaxCount": 1} | (node_type.get("node_config") or {})
    report = ParamValidator().validate(parameters, _run_instances()).generate_report()
    return [f"available_node_types.{name}.node_config: {line}" for line in report.splitlines()]


@functools.cache  # a file of 3 MB
def _run_instances() -> Any:
    from botocore.session import Session

    return Session().get_service_model("ec2").operation_model("RunInstances").input_shape


def summary(config: Config) -> list[str]:
    """The machines that `ray up` will start, and that the autoscaler may start afterwards."""
    provider, head = config["provider"], config["head_node_type"]
    lines = [f"{config['cluster_name']} on AWS, {provider['region']}:"]
    for name, each in _types(config).items():
        machine = each["node_config"].get("InstanceType", "Ray's default instance")
        market = (each["node_config"].get("InstanceMarketOptions") or {}).get("MarketType", "on demand")
        count = "1 now" if name == head else f"{each.get('min_workers', 0)} now, up to {each.get('max_workers', 0)}"
        lines.append(f"  {name:<16} {machine:<14} {market:<10} {count}")
    lines.append(f"  at most {config['max_workers']} workers, away after {config['idle_timeout_minutes']} idle minutes")
    return lines


def storage(config: Config) -> str:
    """The storage of its jobs: RAYSWEEP_STORAGE in the options of its containers.

    Raises:
        BadInput: it is missing.
    """
    for option in (config.get("docker") or {}).get("run_options", []):
        if option.startswith("--env RAYSWEEP_STORAGE="):
            return str(option.partition("=")[2])
    raise BadInput(f"{FILE}: docker.run_options has no `--env RAYSWEEP_STORAGE=s3://…`: its jobs would save nowhere")
