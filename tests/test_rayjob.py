"""A RayJob's name, its code, and what is rendered for it; that it runs is in tests/k8s."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import yaml

from raysweep.errors import BadInput
from raysweep.storage import open_storage
from raysweep.targets import Cluster, manifests, rayjob

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("strategy", "name", "plain"),
    [("asha", "first", "asha-first"), ("tpe_asha", "first", "tpe-asha-first-"), ("asha", "x" * 60, "asha-xxx")],
)
def test_a_name_is_a_label_of_dns(strategy: str, name: str, plain: str) -> None:
    made = rayjob.job_name(strategy, name)
    assert made.startswith(plain)
    assert len(made) <= 47
    assert made.replace("-", "").isalnum()
    assert made == made.lower()


def test_names_that_look_alike_stay_apart() -> None:
    names = [rayjob.job_name("asha", name) for name in ("a.b", "a_b", "a-b", "A-b", "y" * 60, "y" * 61)]
    assert len(set(names)) == len(names)


def test_the_code_is_what_ray_job_submit_would_take(tmp_path: Path) -> None:
    project, place = tmp_path / "project", open_storage(str(tmp_path / "store"))
    for name in ("jobs/asha.py", ".raysweep/token", "runs/x", "ignored/y", ".venv/z"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (project / ".rayignore").write_text("ignored/\n")
    url = rayjob.upload_code(project, place)
    key = url.removeprefix(f"{place.url}/")
    path = place.local_path(key)
    assert path
    with zipfile.ZipFile(path) as package:
        files = {name for name in package.namelist() if not name.endswith("/")}
    assert "project/jobs/asha.py" in files
    assert not [name for name in files if "token" in name or "runs" in name or "ignored" in name or "venv" in name]


def test_it_has_the_images_and_workers_of_the_cluster_that_is_up(tmp_path: Path) -> None:
    (tmp_path / "k8s").symlink_to(ROOT / "k8s")
    folder = tmp_path / ".raysweep" / "kubernetes"
    added = manifests.Additions()
    added.patch("RayCluster", "raysweep", manifests.replace("/spec/workerGroupSpecs/0/maxReplicas", 9))
    manifests.write(folder, ROOT / "k8s" / "overlays" / "kind", added)
    job = rayjob.render(tmp_path, "asha-first", "python jobs/asha.py", "s3://raysweep/first/code/1.zip")
    assert job["metadata"] == job["metadata"] | {"name": "asha-first", "namespace": "raysweep"}
    assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] == 9
    assert job["spec"]["entrypoint"] == "python jobs/asha.py"
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == {"working_dir": "s3://raysweep/first/code/1.zip"}


def test_other_targets_have_none(tmp_path: Path) -> None:
    cluster = Cluster("docker", "id", "", "", "s3://raysweep", "")
    with pytest.raises(BadInput, match="the target docker has no RayJobs"):
        rayjob.run(tmp_path, cluster, "asha", "first", [], "s3://raysweep", follow=True)
