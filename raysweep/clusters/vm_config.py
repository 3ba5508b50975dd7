"""cluster.yaml, the file for `ray up`: reads it, and checks more than Ray does before it starts machines."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from raysweep import ray_private
from raysweep.errors import BadInput

FILE = "cluster.yaml"
Config = dict[str, Any]
# What gives a machine a security group of the user's own.
OWN_GROUP = {"SecurityGroupIds", "NetworkInterfaces", "LaunchTemplate"}
# Whom a permission of EC2 names: under which key, and what an address is called there.
ADDRESSES = {"IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6", "PrefixListIds": "PrefixListId"}


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
    machines = [problem for name in _types(config) for problem in _of_machine(name, _types(config)[name])]
    return _of_ray(config) + machines + _of_ingress(config)


def group_name(config: Config) -> str:
    """The name of the security group that Ray makes, or finds."""
    return _group(config).get("GroupName", f"ray-autoscaler-{config['cluster_name']}")


def ingress(config: Config) -> list[dict[str, Any]]:
    """The addresses that may reach the machines, as EC2's IpPermissions."""
    return _group(config).get("IpPermissions") or []


def each_address(permission: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each address that a permission names, and the permission with this address alone."""
    what = {name: permission[name] for name in ("IpProtocol", "FromPort", "ToPort") if name in permission}
    for kind, name in ADDRESSES.items():
        for address in permission.get(kind, []):
            yield address.get(name, ""), what | {kind: [address]}


def _group(config: Config) -> Config:
    group = (config.get("provider") or {}).get("security_group")
    return group if isinstance(group, dict) else {}


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


def _of_machine(name: str, node_type: Any) -> list[str]:
    # Ray adds the counts itself.
    parameters = {"MinCount": 1, "MaxCount": 1} | (node_type.get("node_config") or {})
    return [f"available_node_types.{name}.node_config: {line}" for line in _of_ec2("RunInstances", parameters)]


def _of_ingress(config: Config) -> list[str]:
    where = "provider.security_group.IpPermissions"
    if not ingress(config) and not all(map(_has_own_group, _types(config).values())):
        return [f"{where}: names no address, so that the whole world could try port 22: name those that may log in"]
    parameters = {"IpPermissions": ingress(config)}
    return [f"{where}: {line}" for line in _of_ec2("AuthorizeSecurityGroupIngress", parameters)]


def _has_own_group(node_type: Any) -> bool:
    return bool(OWN_GROUP & (node_type.get("node_config") or {}).keys())


def _of_ec2(operation: str, parameters: Config) -> list[str]:
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(parameters, _ec2().operation_model(operation).input_shape)
    return report.generate_report().splitlines()


@functools.cache  # a file of 3 MB
def _ec2() -> Any:
    from botocore.session import Session

    return Session().get_service_model("ec2")


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
    if who := [address for permission in ingress(config) for address, _ in each_address(permission)]:
        lines.append(f"  reached from {', '.join(who)} only")
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
