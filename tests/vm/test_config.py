"""cluster.yaml: Ray's schema, EC2's model, and what the defaults would do otherwise."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from raysweep.clusters import vm_config
from raysweep.errors import BadInput

ROOT = Path(__file__).parents[2]
CONFIG = vm_config.read(ROOT / "cluster.yaml")


@pytest.fixture
def config() -> dict[str, Any]:
    return copy.deepcopy(CONFIG)


def rename(mapping: dict[str, Any], old: str, new: str) -> None:
    mapping[new] = mapping.pop(old)


def test_ray_and_ec2_take_it(config: dict[str, Any]) -> None:
    assert vm_config.problems(config) == []


@pytest.mark.parametrize(
    ("where", "old", "new"),
    [
        ((), "idle_timeout_minutes", "idle_timeout_minute"),
        (("docker",), "run_options", "run_option"),
        (("available_node_types", "gpu_spot"), "max_workers", "max_worker"),
        (("available_node_types", "gpu_spot", "node_config"), "InstanceType", "InstanceTyp"),
        (("available_node_types", "head", "node_config", "IamInstanceProfile"), "Name", "name"),
        (("available_node_types", "gpu_spot", "node_config", "InstanceMarketOptions"), "MarketType", "Market"),
        (("provider", "security_group", "IpPermissions", 0), "IpRanges", "IpRange"),
    ],
)
def test_a_typo_is_found(config: dict[str, Any], where: tuple[str | int, ...], old: str, new: str) -> None:
    holder: Any = config
    for key in where:
        holder = holder[key]
    rename(holder, old, new)
    found = vm_config.problems(config)
    assert any(new in problem for problem in found), found


@pytest.mark.parametrize("group", [None, {}, {"GroupName": "raysweep"}, {"IpPermissions": []}])
def test_a_file_that_names_no_address_is_refused(config: dict[str, Any], group: dict[str, Any] | None) -> None:
    config["provider"] |= {"security_group": group}
    if group is None:
        del config["provider"]["security_group"]
    (problem,) = vm_config.problems(config)
    assert "IpPermissions: names no address, so that the whole world could try port 22" in problem


def test_a_file_with_groups_of_the_users_own_needs_no_address(config: dict[str, Any]) -> None:
    del config["provider"]["security_group"]
    for each in config["available_node_types"].values():
        each["node_config"] = each["node_config"] | {"SecurityGroupIds": ["sg-0123456789abcdef0"]}
    assert vm_config.problems(config) == []


def test_a_value_of_the_wrong_kind_is_found(config: dict[str, Any]) -> None:
    disk = config["available_node_types"]["head"]["node_config"]["BlockDeviceMappings"][0]["Ebs"]
    disk["VolumeSize"] = "150 GB"
    assert any("VolumeSize" in problem for problem in vm_config.problems(config))


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("- a\n")
    with pytest.raises(BadInput, match="not a mapping"):
        vm_config.read(tmp_path / "cluster.yaml")


def test_nothing_nightly_is_installed(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config

    filled = prepare_config(config)
    assert filled["provider"]["cache_stopped_nodes"] is False
    assert filled["head_setup_commands"] == filled["worker_setup_commands"] == []
    assert "wheels" not in json.dumps(filled)


def test_workers_come_on_spot_first_and_from_0(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    spot, fallback = types["gpu_spot"], types["gpu_on_demand"]
    assert spot["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert "InstanceMarketOptions" not in fallback["node_config"]
    assert "InstanceMarketOptions" not in types[config["head_node_type"]]["node_config"]
    assert spot["priority"] > fallback.get("priority", 0)
    assert spot["min_workers"] == fallback["min_workers"] == 0
    assert spot["max_workers"] + fallback["max_workers"] <= config["max_workers"]


def test_drivers_are_told_what_the_groups_may_grow_to(config: dict[str, Any]) -> None:
    told = re.search(r"RAYSWEEP_NODES='(.*?)'", " ".join(config["head_start_ray_commands"]))
    assert told
    types = [each for name, each in config["available_node_types"].items() if name != config["head_node_type"]]
    assert json.loads(told[1]) == [{"count": each["max_workers"], **each["resources"]} for each in types]


def test_the_image_has_the_user_that_containers_run_as(config: dict[str, Any]) -> None:
    (user,) = re.findall(r"--user (\d+):\d+", " ".join(config["docker"]["run_options"]))
    stage = (ROOT / "docker" / "Dockerfile").read_text().partition("FROM ray AS vm")[2]
    assert f"getent passwd {user} || useradd --uid {user} " in stage


def test_the_token_is_a_file_and_the_dashboard_is_on_loopback(config: dict[str, Any]) -> None:
    assert config["file_mounts"] == {"/tmp/raysweep/token": ".raysweep/token"}
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])
