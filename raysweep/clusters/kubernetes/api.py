"""A Kubernetes cluster through its API: apply, read, delete. Which one: a context of a kubeconfig."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from raysweep.clusters.kubernetes.manifests import NAMESPACE, Object, kubectl
from raysweep.clusters.kubernetes.waiting import line, wait
from raysweep.errors import BadInput, ClusterError, Unreachable

MANAGER = "raysweep"  # of the fields that it applies
PASSING = (429, 500, 502, 503, 504)  # HTTP: an API server that starts, or has too much to do
SECONDS = 30.0  # for each answer of the API server
OURS = {"app.kubernetes.io/part-of": "raysweep"}


class Kube:
    """One context of a kubeconfig.

    Args:
        kubeconfig: file; None for the user's own ($KUBECONFIG or ~/.kube/config).
        context: name in it; None for the current one.

    Raises:
        BadInput: there is no such context.
    """

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        from kubernetes import config

        try:
            contexts, current = config.list_kube_config_contexts(config_file=kubeconfig)
        except config.ConfigException as error:
            raise BadInput(
                f"no Kubernetes context: {error}: set KUBECONFIG, or make a cluster with TARGET=kind"
            ) from error
        names = [each["name"] for each in contexts]
        self.context = context or (current or {}).get("name", "")
        if self.context not in names:
            raise BadInput(f"`--context {self.context}`: the kubeconfig has {', '.join(names) or 'none'}")
        self.kubeconfig = kubeconfig

    @functools.cached_property
    def api(self) -> Any:
        """Kubernetes' own client."""
        from kubernetes import client, config

        settings = client.Configuration()
        settings.retries = 1  # of urllib3, at once; who can wait does so himself
        config.load_kube_config(config_file=self.kubeconfig, context=self.context, client_configuration=settings)
        api = client.ApiClient(settings)
        ask = api.rest_client.request

        def request(*args: Any, _request_timeout: float | None = None, **kwargs: Any) -> Any:
            return ask(*args, _request_timeout=_request_timeout or SECONDS, **kwargs)

        api.rest_client.request = request  # its own default is to wait for ever
        return api

    @property
    def core(self) -> Any:
        """Its core/v1 part."""
        from kubernetes import client

        return client.CoreV1Api(self.api)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self.api.configuration.host)

    @property
    def command(self) -> list[str]:
        """`kubectl` on this context and our namespace."""
        where = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        return [kubectl(), *where, f"--context={self.context}", f"--namespace={NAMESPACE}"]

    def answers(self) -> bool:
        """Whether the API server does, within a few seconds; one that has just begun refuses even its owner."""
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException

        try:
            with self._answering():
                client.VersionApi(self.api).get_code(_request_timeout=5)
            return True
        except ApiException as error:
            if error.status == 401:
                raise ClusterError(f"{self.server} does not know the user of context {self.context}") from error
            return False
        except Unreachable:
            return False

    def echo(self) -> None:
        """Says which cluster is about to be changed."""
        click.echo(f"context {self.context} ({self.server}), namespace {NAMESPACE}")

    def apply(self, objects: list[Object]) -> None:
        """Server-side apply, in this order.

        Raises:
            ClusterError: the API server refuses an object; its reason in one line.
        """
        for each in objects:
            with _refusal(each), self._answering():
                kind = self._dynamic.resources.get(api_version=each["apiVersion"], kind=each["kind"])
                self._dynamic.server_side_apply(kind, each, field_manager=MANAGER, force_conflicts=True)

    def get(self, kind: str, name: str, api_version: str = "ray.io/v1") -> Object | None:
        """An object of our namespace (or of none), or None."""

        def read() -> Object:
            resource = self._dynamic.resources.get(api_version=api_version, kind=kind)
            return resource.get(name=name, namespace=NAMESPACE).to_dict()

        return self._try(read)

    def patch(self, kind: str, name: str, operations: list[Object]) -> None:
        """JSON 6902 operations on one of KubeRay's objects; all of them, or none and a ClusterError."""
        with _refusal({"kind": kind, "metadata": {"name": name}}), self._answering():
            resource = self._dynamic.resources.get(api_version="ray.io/v1", kind=kind)
            resource.patch(body=operations, name=name, namespace=NAMESPACE, content_type="application/json-patch+json")

    def api_addresses(self) -> list[tuple[list[str], list[int]]]:
        """Addresses and ports of the API server: those of its Service, and those behind it."""
        from kubernetes import client

        with self._answering():
            service = self.core.read_namespaced_service("kubernetes", "default").spec
            behind = client.DiscoveryV1Api(self.api).read_namespaced_endpoint_slice("kubernetes", "default")
        return [
            ([service.cluster_ip], [port.port for port in service.ports]),
            ([ip for each in behind.endpoints for ip in each.addresses], [port.port for port in behind.ports]),
        ]

    def delete(
        self, kind: str, name: str, api_version: str = "ray.io/v1", seconds: float = 180, alone: bool = False
    ) -> None:
        """Deletes an object and waits until it and what it owns are gone; or, `alone`, only it: the rest follows."""
        policy = "Background" if alone else "Foreground"

        def remove() -> bool:
            resource = self._dynamic.resources.get(api_version=api_version, kind=kind)
            resource.delete(name=name, namespace=NAMESPACE, body={"propagationPolicy": policy})
            return True

        if self._try(remove):
            wait(f"the end of {kind} {name}", lambda: self.get(kind, name, api_version) is None, seconds=seconds)

    def pods(self, namespace: str = NAMESPACE, selector: str = "") -> list[Any]:
        """The pods of a namespace that bear these labels."""
        return self._try(lambda: list(self.core.list_namespaced_pod(namespace, label_selector=selector).items)) or []

    def namespaces_of(self, labels: dict[str, str]) -> list[str]:
        """The namespaces that have pods with these labels."""
        selector = ",".join(f"{label}={value}" for label, value in labels.items())
        pods = self._if_allowed(lambda: self.core.list_pod_for_all_namespaces(label_selector=selector).items)
        return sorted({pod.metadata.namespace for pod in pods})

    def events(self, namespace: str = NAMESPACE) -> list[Any]:
        """What has happened there lately."""
        return self._try(lambda: list(self.core.list_namespaced_event(namespace).items)) or []

    def allocatable(self) -> list[dict[str, str]]:
        """What each node has for pods, such as {"cpu": "2", "memory": "8Gi"}; none if this user may not know it."""
        return [dict(node.status.allocatable or {}) for node in self._if_allowed(lambda: self.core.list_node().items)]

    def touch(self, selector: str) -> None:
        """Has the kubelet look at pods of our namespace at once, and so at the files that they have of ConfigMaps."""
        for pod in self.pods(selector=selector):
            now = {"metadata": {"annotations": {"raysweep/looked-at": uuid.uuid4().hex[:8]}}}
            with _refusal({"kind": "Pod", "metadata": {"name": pod.metadata.name}}), self._answering():
                self.core.patch_namespaced_pod(pod.metadata.name, NAMESPACE, now)

    def names(self, kind: str) -> list[str]:
        """The objects of one of KubeRay's kinds in our namespace."""

        def read() -> list[str]:
            resource = self._dynamic.resources.get(api_version="ray.io/v1", kind=kind)
            return [each.metadata.name for each in resource.get(namespace=NAMESPACE).items]

        return self._try(read) or []

    @functools.cached_property
    def _dynamic(self) -> Any:
        from kubernetes import dynamic

        # Of what kinds there are it keeps a cache in a file, which is another cluster's by the next run.
        cache = Path(tempfile.mkdtemp(prefix="raysweep-kube-"))
        atexit.register(shutil.rmtree, cache, ignore_errors=True)
        return dynamic.DynamicClient(self.api, cache_file=str(cache / "kinds.json"))

    def _if_allowed(self, call: Callable[[], list[Any]]) -> list[Any]:
        """Nothing where only more powerful users may look."""
        try:
            return self._try(call) or []
        except Unreachable:
            raise
        except ClusterError:
            return []

    def _try(self, call: Callable[[], Any]) -> Any:
        """None where there is nothing: neither the object nor its kind.

        Raises:
            Unreachable: no answer, so that nobody knows whether there is something.
            ClusterError: the API server refuses.
        """
        from kubernetes.client.exceptions import ApiException
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            with self._answering():
                return call()
        except ResourceNotFoundError:
            return None
        except ApiException as error:
            if error.status == 404:
                return None
            raise ClusterError(f"{self.server}: {_message(error)}") from error

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        where = f"the API server of context {self.context} does not answer at {self.server}"
        try:
            yield
        except ApiException as error:
            if error.status not in PASSING:
                raise
            raise Unreachable(f"{where}: {_message(error)}") from error
        except HTTPError as error:
            raise Unreachable(f"{where}: {type(error).__name__}") from error


@contextlib.contextmanager
def _refusal(each: Object) -> Iterator[None]:
    from kubernetes.client.exceptions import ApiException
    from kubernetes.dynamic.exceptions import ResourceNotFoundError

    what = f"{each['kind']} {each['metadata']['name']}"
    try:
        yield
    except ApiException as error:
        raise ClusterError(f"{what} was refused: {_message(error)}") from error
    except ResourceNotFoundError as error:
        raise ClusterError(f"{what}: this cluster does not know the kind: is the KubeRay operator there?") from error


def _message(error: Any) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return line(json.loads(error.body)["message"])
    return line(str(error.reason))


def write_settings(path: Path, **settings: str | None) -> None:
    """What is needed to find the cluster again."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2) + "\n")


def open_cluster(settings: str) -> Kube:
    """The cluster that `write_settings` wrote down."""
    known = json.loads(Path(settings).read_text())
    return Kube(known["kubeconfig"], known["context"])
