"""A Kubernetes cluster through its API: apply, read, delete. A context of a kubeconfig selects the cluster."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from raysweep import temporary
from raysweep.clusters.kubernetes.manifests import NAMESPACE, Object, kubectl
from raysweep.clusters.kubernetes.waiting import line, wait
from raysweep.errors import BadInput, ClusterError, Unreachable

MANAGER = "raysweep"  # field manager of server-side apply
TRANSIENT = (429, 500, 502, 503, 504)  # HTTP: an API server that is starting or overloaded
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
        settings.retries = 1  # of urllib3, at once; callers that can wait retry themselves
        config.load_kube_config(config_file=self.kubeconfig, context=self.context, client_configuration=settings)
        api = client.ApiClient(settings)
        original = api.rest_client.request

        def request(*args: Any, _request_timeout: float | None = None, **kwargs: Any) -> Any:
            return original(*args, _request_timeout=_request_timeout or SECONDS, **kwargs)

        api.rest_client.request = request  # without a timeout, it would wait for ever
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
        """`kubectl` with this context and our namespace."""
        where = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        return [kubectl(), *where, f"--context={self.context}", f"--namespace={NAMESPACE}"]

    def answers(self) -> bool:
        """Whether the API server answers within a few seconds; one that has just started refuses even its owner."""
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException

        try:
            with self._unreachable_errors():
                client.VersionApi(self.api).get_code(_request_timeout=5)
            return True
        except ApiException as error:
            if error.status == 401:
                raise ClusterError(f"{self.server} does not know the user of context {self.context}") from error
            return False
        except Unreachable:
            return False

    def echo(self) -> None:
        """Prints which cluster is about to be changed."""
        click.echo(f"context {self.context} ({self.server}), namespace {NAMESPACE}")

    def apply(self, objects: list[Object]) -> None:
        """Server-side apply, in this order.

        Raises:
            ClusterError: the API server refuses an object; its reason in one line.
        """
        for each in objects:
            with _refusal_errors(each), self._unreachable_errors():
                kind = self._dynamic.resources.get(api_version=each["apiVersion"], kind=each["kind"])
                self._dynamic.server_side_apply(kind, each, field_manager=MANAGER, force_conflicts=True)

    def get(self, kind: str, name: str, api_version: str = "ray.io/v1") -> Object | None:
        """An object of our namespace, or a cluster-scoped one; None if it does not exist."""

        def read() -> Object:
            resource = self._dynamic.resources.get(api_version=api_version, kind=kind)
            return resource.get(name=name, namespace=NAMESPACE).to_dict()

        return self._try(read)

    def patch(self, kind: str, name: str, operations: list[Object]) -> None:
        """Applies JSON 6902 operations to one of KubeRay's objects: all of them, or none, with a ClusterError."""
        with _refusal_errors({"kind": kind, "metadata": {"name": name}}), self._unreachable_errors():
            resource = self._dynamic.resources.get(api_version="ray.io/v1", kind=kind)
            resource.patch(body=operations, name=name, namespace=NAMESPACE, content_type="application/json-patch+json")

    def api_addresses(self) -> list[tuple[list[str], list[int]]]:
        """Addresses and ports of the API server: those of its Service, and those behind it."""
        from kubernetes import client

        with self._unreachable_errors():
            service = self.core.read_namespaced_service("kubernetes", "default").spec
            endpoints = client.DiscoveryV1Api(self.api).read_namespaced_endpoint_slice("kubernetes", "default")
        return [
            ([service.cluster_ip], [port.port for port in service.ports]),
            ([ip for each in endpoints.endpoints for ip in each.addresses], [port.port for port in endpoints.ports]),
        ]

    def delete(
        self, kind: str, name: str, api_version: str = "ray.io/v1", seconds: float = 180, alone: bool = False
    ) -> None:
        """Deletes an object and waits until it is gone with its dependents; if `alone`, does not wait for these."""
        policy = "Background" if alone else "Foreground"

        def remove() -> bool:
            resource = self._dynamic.resources.get(api_version=api_version, kind=kind)
            resource.delete(name=name, namespace=NAMESPACE, body={"propagationPolicy": policy})
            return True

        if self._try(remove):
            wait(f"the end of {kind} {name}", lambda: self.get(kind, name, api_version) is None, seconds=seconds)

    def pods(self, namespace: str = NAMESPACE, selector: str = "") -> list[Any]:
        """The pods of a namespace that have these labels."""
        return self._try(lambda: list(self.core.list_namespaced_pod(namespace, label_selector=selector).items)) or []

    def namespaces_of(self, labels: dict[str, str]) -> list[str]:
        """The namespaces that have pods with these labels."""
        selector = ",".join(f"{label}={value}" for label, value in labels.items())
        pods = self._if_allowed(lambda: self.core.list_pod_for_all_namespaces(label_selector=selector).items)
        return sorted({pod.metadata.namespace for pod in pods})

    def events(self, namespace: str = NAMESPACE) -> list[Any]:
        """The recent events of a namespace."""
        return self._try(lambda: list(self.core.list_namespaced_event(namespace).items)) or []

    def allocatable(self) -> list[dict[str, str]]:
        """Each node's allocatable resources, such as {"cpu": "2", "memory": "8Gi"}; empty if this user may not list
        nodes.
        """
        return [dict(node.status.allocatable or {}) for node in self._if_allowed(lambda: self.core.list_node().items)]

    def touch(self, selector: str) -> None:
        """Makes the kubelet sync pods of our namespace at once, and so update the files that ConfigMaps provide."""
        for pod in self.pods(selector=selector):
            now = {"metadata": {"annotations": {"raysweep/looked-at": uuid.uuid4().hex[:8]}}}
            with _refusal_errors({"kind": "Pod", "metadata": {"name": pod.metadata.name}}), self._unreachable_errors():
                self.core.patch_namespaced_pod(pod.metadata.name, NAMESPACE, now)

    def names(self, kind: str) -> list[str]:
        """The names of all objects of one of KubeRay's kinds in our namespace."""

        def read() -> list[str]:
            resource = self._dynamic.resources.get(api_version="ray.io/v1", kind=kind)
            return [each.metadata.name for each in resource.get(namespace=NAMESPACE).items]

        return self._try(read) or []

    def listed(self, kind: str, group: str, selector: str = "") -> list[Object] | None:
        """The objects of a kind in our namespace, or the cluster-scoped ones; None if the cluster has no such kind.

        Args:
            kind: of the objects.
            group: of the kind, in whatever version the cluster prefers.
            selector: labels that they have.

        Raises:
            ClusterError: this user may not list them.
        """

        def read() -> list[Object]:
            resource = self._dynamic.resources.get(group=group, kind=kind, preferred=True)
            found = resource.get(namespace=NAMESPACE, label_selector=selector)
            return [each.to_dict() for each in found.items]

        found: list[Object] | None = self._try(read)
        return found

    @functools.cached_property
    def _dynamic(self) -> Any:
        from kubernetes import dynamic

        # Its cache of resource kinds is a file, which might be that of another cluster in the next run.
        cache = temporary.make("kube")
        atexit.register(temporary.remove, cache)
        return dynamic.DynamicClient(self.api, cache_file=str(cache / "kinds.json"))

    def _if_allowed(self, call: Callable[[], list[Any]]) -> list[Any]:
        """The result of a call; empty if this user is not allowed to make it."""
        try:
            return self._try(call) or []
        except Unreachable:
            raise
        except ClusterError:
            return []

    def _try(self, call: Callable[[], Any]) -> Any:
        """The result of a call; None if the object, or its kind, does not exist.

        Raises:
            Unreachable: no answer, so it is unknown whether the object exists.
            ClusterError: the API server refuses.
        """
        from kubernetes.client.exceptions import ApiException
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            with self._unreachable_errors():
                return call()
        except ResourceNotFoundError:
            return None
        except ApiException as error:
            if error.status == 404:
                return None
            raise ClusterError(f"{self.server}: {_message(error)}") from error

    @contextlib.contextmanager
    def _unreachable_errors(self) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        message = f"the API server of context {self.context} does not answer at {self.server}"
        try:
            yield
        except ApiException as error:
            if error.status not in TRANSIENT:
                raise
            raise Unreachable(f"{message}: {_message(error)}") from error
        except HTTPError as error:
            raise Unreachable(f"{message}: {type(error).__name__}") from error


@contextlib.contextmanager
def _refusal_errors(each: Object) -> Iterator[None]:
    from kubernetes.client.exceptions import ApiException
    from kubernetes.dynamic.exceptions import ResourceNotFoundError

    name = f"{each['kind']} {each['metadata']['name']}"
    try:
        yield
    except ApiException as error:
        raise ClusterError(f"{name} was refused: {_message(error)}") from error
    except ResourceNotFoundError as error:
        raise ClusterError(f"{name}: this cluster does not know the kind: is the KubeRay operator there?") from error


def _message(error: Any) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return line(json.loads(error.body)["message"])
    return line(str(error.reason))


def write_settings(path: Path, **settings: str | None) -> None:
    """Writes what is needed to connect to the cluster again."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2) + "\n")


def open_cluster(settings: str) -> Kube:
    """Connects to the cluster whose settings were written by `write_settings`."""
    fields = json.loads(Path(settings).read_text())
    return Kube(fields["kubeconfig"], fields["context"])
