"""What `raysweep cluster up --target aws` launches of cluster.yaml, read at an EC2 API on loopback: moto's server.

moto launches no machine, so `ray up` goes as far as its first `ssh`, here a program that fails. The head's autoscaler
is then run here, from the very file that `ray up` was about to copy to the head. Of the machines that a request asks
for, moto makes the fewest, which is one: how many it asks for is read in the request.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from urllib.request import urlopen

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from raysweep.clusters import vm_config
from raysweep.clusters.shared import processes
from tests.ray_project import Project, clean_environment
from tests.s3 import free_ports
from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[2]
CONFIG = vm_config.read(ROOT / "cluster.yaml")
TYPES = CONFIG["available_node_types"]
HEAD = CONFIG["head_node_type"]
WORKERS = {name: each["max_workers"] for name, each in TYPES.items() if name != HEAD}
ALL_ADDRESSES = "0.0.0.0/0"
SSH = """#!/bin/sh
echo "$@" >> "$SSH_LOG"
exit 255
"""
ASK = """
import sys, ray
from ray.autoscaler.sdk import request_resources
ray.init(log_to_driver=False)
request_resources(bundles=[{"GPU": 1}] * int(sys.argv[1]))
"""


@dataclass
class Region:
    """An AWS account with one instance profile, and a project on this machine whose commands reach it.

    Attributes:
        url: where its API answers.
        ssh: each `ssh` of the project's commands, one a line.
    """

    url: str
    project: Project
    ssh: Path

    def client(self, service: str) -> Any:
        session = boto3.session.Session("test", "test", region_name=CONFIG["provider"]["region"])
        return session.client(service, endpoint_url=self.url)

    def instances(self, *states: str) -> list[dict[str, Any]]:
        filters = [{"Name": "instance-state-name", "Values": states or ["pending", "running", "stopping", "stopped"]}]
        found = self.client("ec2").describe_instances(Filters=filters)["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]

    def group(self) -> dict[str, Any]:
        """The security group of the file's name."""
        groups = self.client("ec2").describe_security_groups()["SecurityGroups"]
        (found,) = [group for group in groups if group["GroupName"] == vm_config.group_name(CONFIG)]
        return found

    def requests(self, action: str) -> list[dict[str, str]]:
        """The parameters of each such request: moto keeps fewer of them with an instance."""
        recorded = urlopen(f"{self.url}/moto-api/recorder/download-recording").read().splitlines()
        bodies = [base64.b64decode(json.loads(line)["body"] or "").decode() for line in recorded]
        return [asked for asked in (dict(parse_qsl(body)) for body in bodies) if asked.get("Action") == action]

    def up_to_the_first_ssh(self) -> subprocess.Popen[str]:
        """`cluster up`, confirmed, as soon as `ray up` tries to log in to the head."""
        self.ssh.unlink(missing_ok=True)
        log = (self.project.folder / "log").open("w")
        with log:
            up = subprocess.Popen(
                self.project.command("cluster", "up", "--target", "aws"),
                cwd=self.project.folder,
                env=self.project.env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,  # as a terminal does: Ctrl-C is for `ray up`, too
            )
        assert up.stdin
        up.stdin.write("y\n")
        up.stdin.close()
        until(lambda: self.ssh.exists() or up.poll() is not None, self.printed)
        assert up.poll() is None, self.printed()
        return up

    def printed(self) -> str:
        return (self.project.folder / "log").read_text()


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    (port,) = free_ports(1)
    url, ssh = f"http://127.0.0.1:{port}", tmp_path / "ssh.log"
    for name in ("bin", "home", "project"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin" / "ssh").write_text(SSH)
    (tmp_path / "bin" / "ssh").chmod(0o755)
    (tmp_path / "project" / "cluster.yaml").write_text((ROOT / "cluster.yaml").read_text())
    env = clean_environment(
        tmp_path / "home",
        AWS_ENDPOINT_URL=url,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_EC2_METADATA_DISABLED="true",
        SSH_LOG=str(ssh),
        PATH=os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]),
        TMPDIR=str(tmp_path),  # Ray leaves the files there that it was about to copy
    )
    region = Region(url, Project(tmp_path / "project", env), ssh)
    recording = {"MOTO_ENABLE_RECORDING": "true", "MOTO_RECORDER_FILEPATH": str(tmp_path / "requests")}
    command = [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "moto.log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | recording, stdout=log, stderr=log)
    try:
        until(lambda: answers(region), (tmp_path / "moto.log").read_text)
        yield region
    finally:
        server.kill()
        server.wait()


def answers(region: Region) -> bool:
    """Whether the API is there; the profile of cluster.yaml is then, too, which is the user's own."""
    profile = TYPES[HEAD]["node_config"]["IamInstanceProfile"]["Name"]
    try:
        region.client("iam").create_instance_profile(InstanceProfileName=profile)
    except (BotoCoreError, ClientError):
        return False
    return True


def head_of_ray(region: Region, instance: dict[str, Any]) -> dict[str, str]:
    """The environment that `ray up` starts Ray with on the head."""
    return region.project.env | {
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": instance["InstanceId"],
        "RAY_NODE_TYPE_NAME": HEAD,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAYSWEEP_CLUSTER_ID": uuid.uuid4().hex,
    }


def start_autoscaler(region: Region, env: dict[str, str], temp: str) -> None:
    """Runs the head's Ray here, and asks it for all workers that cluster.yaml allows."""
    (port,) = free_ports(1)
    (config,) = region.project.folder.parent.glob("ray-bootstrap-*")
    home = Path(env["HOME"])
    (key,) = home.glob(".ssh/*.pem")
    shutil.copy(key, home / "ray_bootstrap_key.pem")  # where `ray up` copies it to on the head
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus=0", f"--port={port}"]
    flags = [f"--temp-dir={temp}", "--include-dashboard=false", f"--autoscaling-config={config}"]
    subprocess.run([*ray, *flags], env=env, check=True, capture_output=True, timeout=PATIENCE_S)
    ask = [sys.executable, "-c", ASK, str(sum(WORKERS.values()))]
    subprocess.run(ask, env=env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, check=True, timeout=PATIENCE_S)


def name_of(instance: dict[str, Any]) -> str:
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}["ray-user-node-type"]


def assert_as_the_file_says(region: Region, instance: dict[str, Any]) -> None:
    """Instance type, image, market, role, metadata service, disk, key, tags and group of one machine."""
    name = name_of(instance)
    asked = TYPES[name]["node_config"]
    spot = asked.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    assert (instance["InstanceType"], instance["ImageId"]) == (asked["InstanceType"], asked["ImageId"])
    assert instance.get("InstanceLifecycle") == ("spot" if spot else None)
    assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{asked['IamInstanceProfile']['Name']}")
    assert asked["MetadataOptions"].items() <= instance["MetadataOptions"].items()
    assert instance["KeyName"] == f"ray-autoscaler_{CONFIG['provider']['region']}"
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    kind = "head" if name == HEAD else "worker"
    assert tags["ray-cluster-name"] == CONFIG["cluster_name"]
    assert (tags["ray-node-type"], tags["Name"]) == (kind, f"ray-{CONFIG['cluster_name']}-{kind}")
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [region.group()["GroupId"]]
    zone = instance["Placement"]["AvailabilityZone"]
    assert zone in CONFIG["provider"]["availability_zone"].split(",")
    (wanted,), (disk,) = asked["BlockDeviceMappings"], disks(region, instance)
    assert disk["Attachments"][0]["Device"] == wanted["DeviceName"]
    assert (disk["Size"], disk["VolumeType"], disk["Encrypted"]) == tuple(
        wanted["Ebs"][key] for key in ("VolumeSize", "VolumeType", "Encrypted")
    )


def disks(region: Region, instance: dict[str, Any]) -> list[dict[str, Any]]:
    filters = [{"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]}]
    return region.client("ec2").describe_volumes(Filters=filters)["Volumes"]


def assert_only_the_file_may_log_in(region: Region) -> None:
    """The group's rules: the addresses of the file, and its own machines."""
    group = region.group()
    rules = [
        (rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"), [each["CidrIp"] for each in rule["IpRanges"]])
        for rule in group["IpPermissions"]
        if not rule["UserIdGroupPairs"]
    ]
    (asked,) = CONFIG["provider"]["security_group"]["IpPermissions"]
    assert rules == [("tcp", asked["FromPort"], asked["ToPort"], [each["CidrIp"] for each in asked["IpRanges"]])]
    (own,) = [rule for rule in group["IpPermissions"] if rule["UserIdGroupPairs"]]
    assert [pair["GroupId"] for pair in own["UserIdGroupPairs"]] == [group["GroupId"]]
    assert own["IpRanges"] == own["Ipv6Ranges"] == []


@pytest.mark.timeout(600)
def test_what_is_launched_is_what_the_file_says_and_down_leaves_none(region: Region) -> None:
    up = region.up_to_the_first_ssh()
    (head,) = region.instances()
    assert name_of(head) == HEAD
    assert_as_the_file_says(region, head)
    assert_only_the_file_may_log_in(region)
    assert f"{CONFIG['auth']['ssh_user']}@{head['PublicIpAddress']}" in region.ssh.read_text()

    env = head_of_ray(region, head)
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as temp:
        try:
            start_autoscaler(region, env, temp)
            until(lambda: set(map(name_of, region.instances())) == TYPES.keys(), lambda: monitor_log(temp))
        finally:
            processes.end(env["RAYSWEEP_CLUSTER_ID"])
    workers = [instance for instance in region.instances() if name_of(instance) != HEAD]
    for worker in workers:
        assert_as_the_file_says(region, worker)
    asked = {tags_of(request)["ray-user-node-type"]: request for request in region.requests("RunInstances")}
    assert {name: int(request["MaxCount"]) for name, request in asked.items()} == {HEAD: 1} | WORKERS
    for name, request in asked.items():
        assert market_of(request) == flat(TYPES[name]["node_config"].get("InstanceMarketOptions", {}))
    assert_only_the_file_may_log_in(region)

    os.killpg(up.pid, signal.SIGKILL)  # so that it is `down` alone which removes the machines
    up.wait()
    down = region.project.run("cluster", "down")
    assert down.returncode == 0, down.stdout
    assert region.instances() == []
    assert len(region.instances("terminated")) == 1 + len(workers)
    assert all(disks(region, instance) == [] for instance in [head, *workers])


def tags_of(request: dict[str, str]) -> dict[str, str]:
    return {value: request[f"{key[:-4]}.Value"] for key, value in request.items() if key.endswith(".Key")}


def market_of(request: dict[str, str]) -> dict[str, str]:
    """How a request wants its machines, `spot` and all that comes with it."""
    prefix = "InstanceMarketOptions."
    return {key.removeprefix(prefix): value for key, value in request.items() if key.startswith(prefix)}


def flat(options: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Options of a file as a request names them: `SpotOptions.SpotInstanceType`."""
    found: dict[str, str] = {}
    for key, value in options.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return found


def monitor_log(temp: str) -> str:
    return "\n".join(path.read_text() for path in Path(temp).glob("session_*/logs/monitor.*"))


def test_an_address_that_the_file_no_longer_has_is_taken_away_and_ctrl_c_removes_the_machines(region: Region) -> None:
    """The group is there already, as a plain `ray up` leaves it: open to the world, and to an address of before."""
    ec2 = region.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    name = vm_config.group_name(CONFIG)
    group = ec2.create_security_group(GroupName=name, Description="of before", VpcId=vpc)["GroupId"]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    before = [ssh | {"IpRanges": [{"CidrIp": ALL_ADDRESSES}, {"CidrIp": "198.51.100.1/32"}]}]
    before += [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=before)
    up = region.up_to_the_first_ssh()
    (head,) = region.instances()
    assert [each["GroupId"] for each in head["SecurityGroups"]] == [group]
    assert_only_the_file_may_log_in(region)
    os.killpg(up.pid, signal.SIGINT)
    assert up.wait(PATIENCE_S) != 0
    assert region.instances() == []
    assert not (region.project.folder / ".raysweep" / "cluster.json").exists()
