"""Volumes of pods, as folders: claims, ConfigMaps, Secrets and empty ones. And the file for a container's last words.

A claim's folder is what its PersistentVolume says (`hostPath`), so that several pods see the same files. All else is
made for one pod and goes with it. What a kubelet does beyond that (sizes, owners, ConfigMaps that change later) is not
done.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kubernetes.nodes.api import NodeApi

IN_MEMORY = Path("/run/volumes")  # of the sandbox


@dataclass(frozen=True)
class Volume:
    """The folder of a volume."""

    folder: Path
    read_only: bool = False


@dataclass(frozen=True)
class Mount:
    """A folder or file, and where a container sees it."""

    source: Path
    target: str
    read_only: bool


class Volumes:
    """Makes what a pod's volumes are. `folder` is where those on disk lie."""

    def __init__(self, api: NodeApi, folder: Path) -> None:
        self._api = api
        self._folder = folder

    def make(self, pod: dict[str, Any]) -> dict[str, Volume]:
        """By name. Raises LookupError, with a kubelet's sentence, when something that a volume needs is not there; it
        may be called again then."""
        uid, namespace = pod["metadata"]["uid"], pod["metadata"]["namespace"]
        return {
            one["name"]: self._volume(one, uid=uid, namespace=namespace)
            for one in pod["spec"].get("volumes", [])
        }

    def last_words(self, uid: str, container: str) -> Path:
        """An empty file for a container that starts now."""
        path = self._folder / uid / f"last-words-of-{container}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        return path

    def scratch(self, uid: str) -> Path:
        """A folder in memory for what is needed while containers of the pod start."""
        path = IN_MEMORY / uid / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def remove(self, uid: str) -> None:
        """All that was made for this pod."""
        for above in (self._folder, IN_MEMORY):
            shutil.rmtree(above / uid, ignore_errors=True)

    def _volume(self, told: dict[str, Any], *, uid: str, namespace: str) -> Volume:
        name = told["name"]
        own = self._folder / uid / "volumes" / name
        if "persistentVolumeClaim" in told:
            claim = told["persistentVolumeClaim"]
            folder = self._claimed(namespace, claim["claimName"])
            return Volume(folder, read_only=claim.get("readOnly", False))
        if "emptyDir" in told:
            in_memory = told["emptyDir"].get("medium") == "Memory"
            folder = IN_MEMORY / uid / name if in_memory else own
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
            return Volume(folder)
        if "projected" in told:  # the token of the pod's account, which no pod of the lab gets
            own.mkdir(parents=True, exist_ok=True)
            return Volume(own, read_only=True)
        for kind, plural in (("configMap", "configmaps"), ("secret", "secrets")):
            if kind in told:
                own.mkdir(parents=True, exist_ok=True)
                for path, content in self._files(namespace, plural, told[kind]).items():
                    (own / path).parent.mkdir(parents=True, exist_ok=True)
                    (own / path).write_bytes(content)
                return Volume(own, read_only=True)
        kinds = ", ".join(sorted(told.keys() - {"name"}))
        raise LookupError(
            f'MountVolume.SetUp failed for volume "{name}" : the lab has no volumes of the kind {kinds}'
        )

    def _claimed(self, namespace: str, claim: str) -> Path:
        found = self._api.call("GET", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
        if found.status_code != 200:
            raise LookupError(f'persistentvolumeclaim "{claim}" not found')
        volume = found.json()["spec"].get("volumeName", "")
        if not volume:
            raise LookupError(f'persistentvolumeclaim "{claim}" is not bound')
        told = self._api.call("GET", f"/api/v1/persistentvolumes/{volume}").json().get("spec", {})
        folder = Path(told.get("hostPath", {}).get("path", "/nothing"))
        if not folder.is_dir():
            raise LookupError(f'MountVolume.SetUp failed for volume "{volume}" : hostPath type check failed')
        return folder

    def _files(self, namespace: str, plural: str, told: dict[str, Any]) -> dict[str, bytes]:
        """By their path in the volume."""
        name = told.get("name") or told["secretName"]
        answer = self._api.call("GET", f"/api/v1/namespaces/{namespace}/{plural}/{name}")
        if answer.status_code != 200:
            if told.get("optional"):
                return {}
            raise LookupError(f'{plural.removesuffix("s")} "{name}" not found')
        content = answer.json()
        encoded = content.get("binaryData", {}) | (content.get("data", {}) if plural == "secrets" else {})
        plain = content.get("data", {}) if plural == "configmaps" else {}
        files = {key: base64.b64decode(value) for key, value in encoded.items()}
        files |= {key: value.encode() for key, value in plain.items()}
        if "items" not in told:
            return files
        absent = [one["key"] for one in told["items"] if one["key"] not in files]
        if absent and not told.get("optional"):
            raise LookupError(f"references non-existent config key: {absent[0]}")
        return {one["path"]: files[one["key"]] for one in told["items"] if one["key"] in files}


def mounts_of(container: dict[str, Any], volumes: Mapping[str, Volume]) -> list[Mount]:
    """What a container sees where. Raises LookupError, with a kubelet's sentence, for a folder of a claim that is not
    there: a kubelet would make it, and cannot in a volume that it was given to read."""
    found = []
    for one in container.get("volumeMounts", []):
        volume = volumes[one["name"]]
        source = volume.folder / one["subPath"] if "subPath" in one else volume.folder
        if not source.exists():
            if volume.read_only:
                raise LookupError(
                    f'failed to create subPath directory for volumeMount "{one["name"]}" of container'
                    f' "{container["name"]}"'
                )
            source.mkdir(parents=True)
        found.append(Mount(source, one["mountPath"], volume.read_only or one.get("readOnly", False)))
    return found
