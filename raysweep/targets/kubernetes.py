"""A Kubernetes cluster through its API: apply, read, delete. Which one: a context of a kubeconfig."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raysweep.errors import BadInput, ClusterError
from raysweep.targets.manifests import NAMESPACE, Object, kubectl
from raysweep.targets.waiting import line, wait

MANAGER = "raysweep"  # of the fields that it applies
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
        from kubernetes import config

        return config.new_client_from_config(config_file=self.kubeconfig, context=self.context)

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
        """Whether the API server does, within a few seconds."""
        return self._try(lambda: self.core.read_namespace("default", _request_timeout=5)) is not None

    def apply(self, objects: list[Object]) -> None:
        """Server-side apply, in this order.

        Raises:
            ClusterError: the API server refuses an object; its reason in one line.
        """
        for each in objects:
            with _refusal(each):
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
        resource = self._dynamic.resources.get(api_version="ray.io/v1", kind=kind)
        with _refusal({"kind": kind, "metadata": {"name": name}}):
            resource.patch(body=operations, name=name, namespace=NAMESPACE, content_type="application/json-patch+json")

    def api_addresses(self) -> list[tuple[list[str], list[int]]]:
        """Addresses and ports of the API server: those of its Service, and those behind it."""
        from kubernetes import client

        service = self.core.read_namespaced_service("kubernetes", "default").spec
        behind = client.DiscoveryV1Api(self.api).read_namespaced_endpoint_slice("kubernetes", "default")
        return [
            ([service.cluster_ip], [port.port for port in service.ports]),
            ([ip for each in behind.endpoints for ip in each.addresses], [port.port for port in behind.ports]),
        ]

    def delete(self, kind: str, name: str, api_version: str = "ray.io/v1", seconds: float = 180) -> None:
        """Deletes an object and waits until it and what it owns are gone."""

        def remove() -> bool:
            resource = self._dynamic.resources.get(api_version=api_version, kind=kind)
            resource.delete(name=name, namespace=NAMESPACE, body={"propagationPolicy": "Foreground"})
            return True

        if self._try(remove):
            wait(f"the end of {kind} {name}", lambda: self.get(kind, name, api_version) is None, seconds=seconds)

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

    def _try(self, call: Callable[[], Any]) -> Any:
        """None where there is nothing: neither the object nor its kind."""
        from kubernetes.client.exceptions import ApiException
        from kubernetes.dynamic.exceptions import ResourceNotFoundError
        from urllib3.exceptions import HTTPError

        try:
            return call()
        except ResourceNotFoundError:
            return None
        except ApiException as error:
            if error.status == 404:
                return None
            raise ClusterError(f"{self.server}: {_message(error)}") from error
        except HTTPError:
            return None


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
