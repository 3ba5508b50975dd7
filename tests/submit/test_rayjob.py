"""A RayJob's name, its code, and what is rendered for it; that it runs is in tests/k8s."""

from __future__ import annotations

import base64
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from tenacity import wait_none

from raysweep.clusters.kubernetes import manifests
from raysweep.clusters.kubernetes.waiting import Trouble
from raysweep.clusters.targets import Cluster
from raysweep.errors import BadInput, ClusterError, Unavailable, Unreachable
from raysweep.storage import Storage, open_storage
from raysweep.submit import rayjob
from raysweep.submit.rayjob import Limits, RayJob
from raysweep.submit.request import JobRequest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("strategy", "name", "plain"),
    [("asha", "first", "asha-first"), ("tpe_asha", "first", "tpe-asha-first-"), ("asha", "x" * 60, "asha-xxx")],
)
def test_a_name_is_a_dns_label(strategy: str, name: str, plain: str) -> None:
    made = rayjob.job_name(strategy, name)
    assert made.startswith(plain)
    assert len(made) <= 47
    assert made.replace("-", "").isalnum()
    assert made == made.lower()


def test_names_that_look_alike_stay_apart() -> None:
    names = [rayjob.job_name("asha", name) for name in ("a.b", "a_b", "a-b", "A-b", "y" * 60, "y" * 61)]
    assert len(set(names)) == len(names)


def test_it_has_the_images_and_workers_of_the_running_cluster(tmp_path: Path) -> None:
    (tmp_path / "k8s").symlink_to(ROOT / "k8s")
    folder = tmp_path / ".raysweep" / "kubernetes"
    added = manifests.Additions()
    added.patch("RayCluster", "raysweep", manifests.replace("/spec/workerGroupSpecs/0/maxReplicas", 9))
    manifests.write(folder, ROOT / "k8s" / "overlays" / "kind", added)
    code = "s3://raysweep/first/code/1.zip"
    job = rayjob.render(tmp_path, RayJob("asha-first", "python jobs/asha.py", code, "logs/1"), Limits(600))
    assert job["metadata"]["annotations"] == {"raysweep/logs": "logs/1"}
    assert job["spec"]["activeDeadlineSeconds"] == 600
    assert job["metadata"] == job["metadata"] | {"name": "asha-first", "namespace": "raysweep"}
    assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] == 9
    assert job["spec"]["entrypoint"] == "python jobs/asha.py"
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == {"working_dir": "s3://raysweep/first/code/1.zip"}
    needing = rayjob.render(tmp_path, RayJob("asha-first", "", code, "", ("six",)), Limits())
    assert yaml.safe_load(needing["spec"]["runtimeEnvYAML"])["pip"]["packages"] == ["six"]


def test_in_a_queue_of_kueue_it_waits_for_all_of_its_workers(tmp_path: Path) -> None:
    (tmp_path / "k8s").symlink_to(ROOT / "k8s")
    manifests.write(tmp_path / ".raysweep" / "kubernetes", ROOT / "k8s" / "overlays" / "gpu", manifests.Additions())
    job = rayjob.render(tmp_path, RayJob("asha-first", "", "s3://x/1.zip", ""), Limits(queue="team-a", priority="high"))
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "high"
    assert job["spec"]["suspend"] is True
    cluster = job["spec"]["rayClusterSpec"]
    assert "enableInTreeAutoscaling" not in cluster
    assert [group["replicas"] for group in cluster["workerGroupSpecs"]] == [10, 4]


def request(storage: str) -> JobRequest:
    return JobRequest("asha", "first", storage=storage)


def test_other_targets_have_none(tmp_path: Path) -> None:
    cluster = Cluster("docker", "id", "", "", "s3://raysweep", "")
    with pytest.raises(BadInput, match="the target docker has no RayJobs"):
        rayjob.run(tmp_path, cluster, request("s3://raysweep"), Limits(), follow=True)


def test_a_folder_is_refused_before_any_request(tmp_path: Path) -> None:
    cluster = Cluster("kind", "id", "", "", "s3://raysweep", "")
    with pytest.raises(BadInput, match="`--storage runs`: a folder is lost with the pod that it is in: use s3://"):
        rayjob.run(tmp_path, cluster, request("runs"), Limits(), follow=True)


class Kube:
    """A RayJob whose state changes at each request; an exception is raised instead."""

    def __init__(self, *looks: dict[str, str] | ClusterError) -> None:
        self.looks, self.deleted = list(looks), []

    def get(self, kind: str, name: str) -> dict | None:
        answer = self.looks.pop(0)
        if isinstance(answer, ClusterError):
            raise answer
        return {"status": answer}

    def delete(self, kind: str, name: str, alone: bool) -> None:
        self.deleted.append(name)

    def pods(self, namespace: str, selector: str = "") -> list:
        return []

    def events(self, namespace: str) -> list:
        return []


RUNS = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "job-x"}
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "rayClusterName": "job-x"}


def follow(kube: Kube, place: Storage, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(rayjob, "POLL_SECONDS", 0)
    monkeypatch.setattr(rayjob, "wait_random_exponential", lambda **_: wait_none())
    trouble = Trouble(kube, "raysweep", 20)
    return rayjob._Follower(kube, "job", rayjob._Printer(place, "logs/mine"), trouble).follow()


def test_a_store_and_an_api_server_that_do_not_answer_for_a_moment_do_not_end_the_following(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = open_storage(str(tmp_path))
    place.put("logs/mine/1.log", b"trained\nexit code 0\n")
    answers = iter([Unavailable("the store is away")])

    def away(self: Storage, prefix: str = "") -> list[str]:
        for error in answers:
            raise error
        return list_(self, prefix)

    list_ = type(place).list
    monkeypatch.setattr(type(place), "list", away)
    kube = Kube(RUNS, Unreachable("no answer"), RUNS, DONE)
    assert follow(kube, place, monkeypatch) == 0
    said = capsys.readouterr().out
    assert said.count("trained\n") == 1
    assert "no answer" in said
    assert kube.deleted == ["job"]


def test_only_the_newest_part_of_a_log_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, reads = open_storage(str(tmp_path)), []
    get = type(place).get
    monkeypatch.setattr(type(place), "get", lambda self, key: (reads.append(key), get(self, key))[1])
    printer = rayjob._Printer(place, "logs/mine")
    place.put("logs/mine/1.000000.log", b"one\n")
    printer.print_new()
    place.put("logs/mine/1.000000.log", b"one\ntwo\n")
    place.put("logs/mine/1.000001.log", b"three\n")
    printer.print_new()
    assert printer.code is None
    place.put("logs/mine/1.000001.log", b"three\nexit code 3\n")
    printer.print_new()
    printer.print_new()
    assert capsys.readouterr().out == "one\ntwo\nthree\nexit code 3\n"
    assert printer.code == 3
    assert reads.count("logs/mine/1.000000.log") == 2


def test_the_log_of_an_earlier_run_does_not_end_a_healthy_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_storage(str(tmp_path))
    place.put("logs/before/1.log", b"error: bad input\nexit code 2\n")
    kube = Kube(RUNS, RUNS, DONE)
    assert follow(kube, place, monkeypatch) == 0
    assert kube.looks == []  # it was followed to its end


def test_bad_input_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_storage(str(tmp_path))
    place.put("logs/mine/1.log", b"error: bad input\nexit code 2\n")
    kube = Kube(RUNS, DONE)
    assert follow(kube, place, monkeypatch) == 2
    assert kube.looks == [DONE]
    assert kube.deleted == ["job"]


def test_a_deleted_rayjob_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kube = Kube(RUNS)
    monkeypatch.setattr(kube, "get", lambda *_: None)
    with pytest.raises(ClusterError, match="was deleted by somebody else"):
        follow(kube, open_storage(str(tmp_path)), monkeypatch)


class Api:
    """What a Kubernetes API was asked to do; `refuses` is a kind that it does not take, the second time too."""

    def __init__(self, refuses: str = "", after: int = 0) -> None:
        self.refuses, self.after = refuses, after
        self.applied: list[dict] = []
        self.deleted: list[tuple[str, str]] = []

    def apply(self, objects: list[dict]) -> None:
        (each,) = objects
        if each["kind"] == self.refuses and len([done for done in self.applied if done["kind"] == self.refuses]) >= (
            self.after
        ):
            raise ClusterError(f"{each['kind']} was refused")
        self.applied.append(each)

    def get(self, kind: str, name: str) -> dict:
        return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": {"name": name, "uid": "1234"}}

    def delete(self, kind: str, name: str, api_version: str = "ray.io/v1", alone: bool = False) -> None:
        self.deleted.append((kind, name))


VARIABLES = {"WANDB_API_KEY": "hush-5551", "EMPTY": "", "RAY_AUTH_MODE": "in place of its own"}


def rendered(tmp_path: Path) -> dict:
    (tmp_path / "k8s").symlink_to(ROOT / "k8s")
    manifests.write(tmp_path / ".raysweep" / "kubernetes", ROOT / "k8s" / "overlays" / "gpu", manifests.Additions())
    return rayjob.render(tmp_path, RayJob("asha-first", "python jobs/asha.py", "s3://x/1.zip", ""), Limits())


def test_its_variables_are_a_secret_that_is_deleted_with_it(tmp_path: Path) -> None:
    api = Api()
    rayjob._apply(api, rendered(tmp_path), VARIABLES)
    before, job, secret = api.applied
    assert "ownerReferences" not in before["metadata"]
    (owner,) = secret["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "asha-first", "uid": "1234"}
    assert {name: base64.b64decode(value).decode() for name, value in secret["data"].items()} == VARIABLES
    kubernetes_validate.validate(secret, "1.35", strict=True)
    assert "hush-5551" not in yaml.safe_dump(job)
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == {"working_dir": "s3://x/1.zip"}
    groups = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    assert len(groups) > 2
    for group in groups:
        given = group["template"]["spec"]["containers"][0]["env"]
        assert len({each["name"] for each in given}) == len(given), "a name twice is refused by Kubernetes"
        assert [each for each in given if each["name"] in VARIABLES] == [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "asha-first-env", "key": name}}} for name in VARIABLES
        ]
    on_disk = [path for path in tmp_path.rglob("*") if path.is_file() and b"hush-5551" in path.read_bytes()]
    assert on_disk == []


@pytest.mark.parametrize(("kind", "after"), [("RayJob", 0), ("Secret", 1)])
def test_if_it_is_refused_neither_it_nor_its_secret_is_left(kind: str, after: int, tmp_path: Path) -> None:
    api = Api(kind, after)
    with pytest.raises(ClusterError, match=f"{kind} was refused"):
        rayjob._apply(api, rendered(tmp_path), VARIABLES)
    assert api.deleted == [("RayJob", "asha-first"), ("Secret", "asha-first-env")]


def test_without_variables_it_has_no_secret(tmp_path: Path) -> None:
    api = Api()
    rayjob._apply(api, rendered(tmp_path), {})
    assert [each["kind"] for each in api.applied] == ["RayJob"]
