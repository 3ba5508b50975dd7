"""Who may log in to the machines of `ray up`: the addresses of cluster.yaml, and nobody else.

Ray adds the addresses of `provider.security_group` to a rule of its own, which lets the whole world try port 22, and
looks at the rules only once, when it makes the group.
"""

from __future__ import annotations

from typing import Any

from raysweep.clusters import vm_config
from raysweep.errors import ClusterError

Permission = dict[str, Any]  # as EC2 has it: a protocol, its ports, and who may use them
ByAddress = dict[tuple[object, ...], Permission]


def hold(config: vm_config.Config) -> None:
    """Makes the security group of the file's name, if there is none, and its addresses those of the file.

    Its rules for other groups stay: by one of them, the machines reach each other. A group that the file gives by its
    id is the user's own, and stays as it is.

    Raises:
        ClusterError: EC2, or Ray on its behalf, refuses.
    """
    import boto3
    import click
    from botocore.exceptions import BotoCoreError, ClientError
    from ray.autoscaler import sdk

    try:
        # Ray also chooses the network here, and makes the group in it; no machine is in it yet.
        types = sdk.bootstrap_config(config, no_config_cache=True)["available_node_types"].values()
        ec2 = boto3.resource("ec2", region_name=config["provider"]["region"])
        for each in {group for node in types for group in node["node_config"]["SecurityGroupIds"]}:
            group = ec2.SecurityGroup(each)
            if group.group_name == vm_config.group_name(config):
                _hold(group, _by_address(vm_config.ingress(config)))
    except (BotoCoreError, ClientError, AssertionError, ValueError, click.ClickException) as error:
        raise ClusterError(f"the security group of {vm_config.FILE} could not be made: {error}") from error


def _hold(group: Any, wanted: ByAddress) -> None:
    there = _by_address(group.ip_permissions)
    if more := [there[key] for key in there.keys() - wanted.keys()]:
        group.revoke_ingress(IpPermissions=more)
    if missing := [wanted[key] for key in wanted.keys() - there.keys()]:
        group.authorize_ingress(IpPermissions=missing)


def _by_address(permissions: list[Permission]) -> ByAddress:
    """A permission for each address, by protocol, ports and address: EC2 puts together those of the same ports."""
    return {
        (one.get("IpProtocol"), one.get("FromPort"), one.get("ToPort"), address): one
        for permission in permissions
        for address, one in vm_config.each_address(permission)
    }
