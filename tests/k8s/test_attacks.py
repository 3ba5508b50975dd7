"""Who is not listed gets nothing: tried from another namespace, from a pod of ours without our label, and from us."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.k8s.kind_project import KindProject, eventually

SECONDS = 4
POD = """
apiVersion: v1
kind: Pod
metadata: {name: attacker, labels: LABELS}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: attacker
      image: raysweep:local
      imagePullPolicy: Never
      command: [python, -m, http.server, "8000", --directory, /opt]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""


# Stands for the internet and a cloud's metadata: a pod in the node's own network, on addresses that the node is given.
OUTSIDE = """
apiVersion: v1
kind: Pod
metadata: {name: internet}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  securityContext: {runAsUser: 0}
  containers:
    - name: internet
      image: raysweep:local
      imagePullPolicy: Never
      command:
        - python
        - -c
        - |
          import http.server, socket, threading
          for port in (80, 443):
              server = http.server.HTTPServer(("0.0.0.0", port), http.server.SimpleHTTPRequestHandler)
              threading.Thread(target=server.serve_forever).start()
          echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
          echo.bind(("PUBLIC", 9999))
          while True:
              echo.sendto(*echo.recvfrom(100))
"""
PUBLIC, METADATA = "203.0.113.9", "169.254.169.254"  # the first is set aside for documentation
ECHO = """
import socket, sys
asks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asks.settimeout(1)
for _ in range(3):
    asks.sendto(b"there?", (sys.argv[1], 9999))
    try:
        sys.exit(0 if asks.recv(100) else 1)
    except OSError:
        pass
sys.exit(1)
"""


class Attacker:
    """A pod, from which things are tried."""

    def __init__(self, kind: KindProject, namespace: str, pod: str, container: str) -> None:
        self._kind, self._where = kind, (f"--namespace={namespace}", pod, f"--container={container}")
        found = kind.kubectl("get", "pod", f"--namespace={namespace}", pod, "--output=json")
        self.ip = json.loads(found.stdout)["status"]["podIP"]

    def shell(self, command: str) -> tuple[int, str]:
        done = self._kind.kubectl("exec", *self._where, "--", "bash", "-c", command)
        return done.returncode, done.stdout + done.stderr

    def reaches(self, ip: str, port: int) -> bool:
        return self.shell(f"timeout {SECONDS} bash -c '</dev/tcp/{ip}/{port}'")[0] == 0

    def reached(self, *doors: tuple[str, int]) -> list[tuple[str, int]]:
        """Those that can be reached, all tried at once."""
        with ThreadPoolExecutor(len(doors)) as pool:
            found = pool.map(lambda door: self.reaches(*door), doors)
            return [door for door, open_ in zip(doors, found, strict=True) if open_]

    def hears_by_udp(self, ip: str) -> bool:
        return self._kind.kubectl("exec", *self._where, "--", "python", "-c", ECHO, ip).returncode == 0

    def asks(self, url: str, *headers: str) -> int:
        """HTTP status; 0 without an answer."""
        code = (
            "import sys, urllib.request as u, urllib.error as e\n"
            "r = u.Request(sys.argv[1], headers=dict(h.split(': ') for h in sys.argv[2:]))\n"
            "try: print(u.urlopen(r, timeout=8).status)\n"
            "except e.HTTPError as x: print(x.code)\n"
            "except OSError: print(0)"
        )
        done = self._kind.kubectl("exec", *self._where, "--", "python", "-c", code, url, *headers)
        return int(done.stdout)


OPERATOR = "{app.kubernetes.io/component: kuberay-operator, app.kubernetes.io/name: kuberay}"
RAY = "{raysweep/role: ray, ray.io/node-type: head, ray.io/cluster: raysweep}"


@pytest.fixture(
    scope="module",
    params=[("stranger", "{}"), ("stranger", OPERATOR), ("stranger", RAY), ("raysweep", "{}")],
    ids=["another namespace", "labelled as the operator", "labelled as Ray", "ours without our label"],
)
def attacker(kind: KindProject, request: pytest.FixtureRequest) -> Iterator[Attacker]:
    """A pod in another namespace, whatever its labels, and one in ours that does not bear our labels."""
    namespace, labels = request.param
    kind.kubectl("create", "namespace", "stranger")
    kind.kubectl("apply", f"--namespace={namespace}", "-f", "-", stdin=POD.replace("LABELS", labels))
    kind.kubectl("wait", f"--namespace={namespace}", "pod/attacker", "--for=condition=Ready", "--timeout=120s")
    yield Attacker(kind, namespace, "attacker", "attacker")
    kind.kubectl("delete", "pod", "attacker", f"--namespace={namespace}", "--wait=true")


@pytest.fixture(scope="module")
def listener(kind: KindProject) -> Iterator[Attacker]:
    """A pod of another namespace that listens on port 8000: what a worker must not reach."""
    kind.kubectl("create", "namespace", "outside")
    (node,) = (item["metadata"]["name"] for item in kind.get("nodes"))
    for address in (PUBLIC, METADATA):
        subprocess.run(["docker", "exec", node, "ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
    pods = "---".join([POD.replace("LABELS", "{}"), OUTSIDE.replace("PUBLIC", PUBLIC)])
    kind.kubectl("apply", "--namespace=outside", "-f", "-", stdin=pods)
    for name in ("attacker", "internet"):
        kind.kubectl("wait", "--namespace=outside", f"pod/{name}", "--for=condition=Ready", "--timeout=120s")
    yield Attacker(kind, "outside", "attacker", "attacker")
    kind.kubectl("delete", "namespace", "outside")
    for address in (PUBLIC, METADATA):
        subprocess.run(["docker", "exec", node, "ip", "address", "delete", f"{address}/32", "dev", "lo"], check=True)


def pod(kind: KindProject, *labels: str) -> dict[str, str]:
    found = kind.pods(*labels)[0]
    return {"name": found["metadata"]["name"], "ip": found["status"]["podIP"]}


@pytest.fixture(scope="module")
def head(kind: KindProject) -> dict[str, str]:
    return pod(kind, "ray.io/cluster=raysweep", "ray.io/node-type=head")


@pytest.fixture(scope="module")
def worker(kind: KindProject) -> Attacker:
    name = pod(kind, "ray.io/cluster=raysweep", "ray.io/node-type=worker")["name"]
    return Attacker(kind, "raysweep", name, "ray")


def test_a_stranger_reaches_no_port_of_the_cluster(kind: KindProject, attacker: Attacker, head: dict[str, str]) -> None:
    # GCS, dashboard and Jobs API, Ray client, metrics, agent
    doors = [(head["ip"], port) for port in (6379, 8265, 10001, 8080, 52365)]
    worker = pod(kind, "ray.io/cluster=raysweep", "ray.io/node-type=worker")
    doors += [(worker["ip"], port) for port in (8080, 52365)]
    doors.append((pod(kind, "raysweep/role=store")["ip"], 8333))
    # A policy takes effect within seconds of a pod's start.
    eventually("the GCS is closed", lambda: not attacker.reaches(head["ip"], 6379), 30)
    assert attacker.reached(*doors) == []
    assert attacker.reaches(attacker.ip, 8000)  # the attempt itself works


def test_without_the_token_the_jobs_api_refuses_even_us(worker: Attacker, head: dict[str, str]) -> None:
    jobs = f"http://{head['ip']}:8265/api/jobs/"
    assert worker.asks(jobs) == 401
    assert worker.asks(jobs, "Authorization: Bearer wrong") == 403


def test_without_the_token_the_gcs_refuses_even_us(worker: Attacker, head: dict[str, str]) -> None:
    look = f"RAY_AUTH_MODE=disabled timeout 30 ray status --address {head['ip']}:6379"
    code, text = worker.shell(look)
    assert code != 0
    assert "Unauthenticated" in text or "InvalidAuthToken" in text or "AuthenticationError" in text, text[-500:]


def test_without_keys_the_store_refuses_even_us(worker: Attacker, kind: KindProject) -> None:
    store = pod(kind, "raysweep/role=store")
    assert worker.asks(f"http://{store['ip']}:8333/raysweep?list-type=2") == 403
    assert worker.reached(*((store["ip"], port) for port in (9333, 8888, 8080, 18080))) == []


def test_a_worker_gets_nowhere_else(
    kind: KindProject, worker: Attacker, listener: Attacker, head: dict[str, str]
) -> None:
    node = kind.pods("ray.io/cluster=raysweep", "ray.io/node-type=worker")[0]["status"]["hostIP"]
    operator = json.loads(kind.kubectl("get", "pods", "--namespace=kuberay", "--output=json").stdout)["items"][0]
    service = json.loads(kind.kubectl("get", "service", "kubernetes", "--namespace=default", "--output=json").stdout)
    forbidden = {
        "a pod of another namespace": (listener.ip, 8000),
        "the API server": (service["spec"]["clusterIP"], 443),
        "the API server's address": (node, 6443),
        "the kubelet": (node, 10250),
        "the operator": (operator["status"]["podIP"], 8080),
        "a public address": (PUBLIC, 443),
        "a cloud's metadata": (METADATA, 80),
    }
    eventually("what stands for the internet is there", lambda: listener.reaches(PUBLIC, 443), 60)
    assert listener.reaches(METADATA, 80)
    eventually("it answers by UDP", lambda: listener.hears_by_udp(PUBLIC), 60)
    assert not worker.hears_by_udp(PUBLIC)
    reached = worker.reached(*forbidden.values())
    assert [what for what, door in forbidden.items() if door in reached] == []
    assert worker.reaches(head["ip"], 6379)
    assert listener.reaches(listener.ip, 8000)
    assert listener.reaches(service["spec"]["clusterIP"], 443)  # where no policy is, it can be reached
    assert worker.shell("getent hosts raysweep-store")[0] == 0


def test_only_the_autoscaler_may_use_the_api_server(kind: KindProject, worker: Attacker, head: dict[str, str]) -> None:
    ray = Attacker(kind, "raysweep", head["name"], "ray")
    for where in (worker, ray):
        assert where.shell("cat /var/run/secrets/kubernetes.io/serviceaccount/token")[0] != 0
    autoscaler = Attacker(kind, "raysweep", head["name"], "autoscaler")
    assert autoscaler.shell("test -s /var/run/secrets/kubernetes.io/serviceaccount/token")[0] == 0
