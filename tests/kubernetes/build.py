"""Builds the lab's programs from the pinned Go module in `binaries/`, once, and keeps them outside the repository.

    python -m tests.kubernetes.build            build what is missing, and print the folder
    python -m tests.kubernetes.build --check    only say whether it is there (exit status 1: it is not)

The folder is `$HEADGATE_KUBERNETES_CACHE/KEY`, by default `~/.cache/headgate/kubernetes/KEY`; KEY is a hash of the
module's three files. It appears whole or not at all: the programs are built beside it, and the finished folder is
renamed. Two builders at once take turns by a lock on the folder above it, and the second one finds the work done.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

MODULE = Path(__file__).parent / "binaries"
KUBERNETES_VERSION = "v1.36.3"  # what the API server says of itself; go.mod pins what it is built from
GATEWAY_PROGRAM = "github.com/envoyproxy/gateway/cmd/envoy-gateway"
# Where the objects' definitions are: Go module -> folder inside it.
DEFINITIONS = {
    "sigs.k8s.io/gateway-api": "config/crd/standard",
    "github.com/envoyproxy/gateway": "charts/gateway-helm/charts/crds/crds/generated",
}


FORMAT = b"1"  # of the folder: another one when this file puts something else there


class BuildFailed(Exception):
    """The programs could not be built: the message says why and what to do."""


@dataclass(frozen=True)
class Binaries:
    """What one build leaves in its folder."""

    folder: Path

    @property
    def control_plane(self) -> Path:
        """etcd, API server, controller manager and scheduler in one program; its first argument says which."""
        return self.folder / "control-plane"

    @property
    def gateway(self) -> Path:
        return self.folder / "envoy-gateway"

    @property
    def definitions(self) -> list[Path]:
        """The custom resource definitions and what belongs to them: JSON files with an object each."""
        return sorted((self.folder / "definitions").glob("*.json"))


def built() -> Binaries | None:
    """What was built from the module as it is now; None when nothing was."""
    folder = cache_folder() / key()
    return Binaries(folder) if folder.is_dir() else None


def build() -> Binaries:
    """Builds what is missing: 15 minutes and more on two slow cores the first time. Raises BuildFailed."""
    with one_builder():
        return built() or _build_anew()


def cache_folder() -> Path:
    given = os.environ.get("HEADGATE_KUBERNETES_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "headgate" / "kubernetes"


def key() -> str:
    """Another one for every change of what is built."""
    told = hashlib.sha256(FORMAT)
    for name in ("go.mod", "go.sum", "main.go"):
        told.update((MODULE / name).read_bytes())
    return told.hexdigest()[:16]


@contextmanager
def one_builder() -> Iterator[None]:
    """Holds the lock of the cache folder; it ends with the process, however that ends. Waits for another holder."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    handle = os.open(cache_folder(), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _build_anew() -> Binaries:
    _remove_halves()
    aside = Path(tempfile.mkdtemp(prefix="building-", dir=cache_folder()))
    try:
        flags = " ".join(
            f"-X {package}.gitVersion={KUBERNETES_VERSION}"
            for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        )
        # One command for both: they share nearly all packages, and they are compiled side by side.
        command = [
            "build",
            "-trimpath",
            "-ldflags",
            f"-s -w {flags}",
            "-o",
            f"{aside}/",
            ".",
            GATEWAY_PROGRAM,
        ]
        _go(command)
        (aside / "kubernetes").rename(aside / "control-plane")
        (aside / "definitions").mkdir()
        for module, inside in DEFINITIONS.items():
            found = json.loads(_go(["list", "-m", "-json", module], read=True))
            for path in sorted((Path(found["Dir"]) / inside).glob("*.yaml")):
                _keep_objects(path, aside / "definitions")
        aside.chmod(0o755)
        return Binaries(aside.rename(cache_folder() / key()))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _keep_objects(source: Path, folder: Path) -> None:
    """Writes the file's objects as JSON, here once: reading so much YAML takes longer than starting a cluster."""
    if source.name == "kustomization.yaml":
        return
    for content in yaml.safe_load_all(source.read_text()):
        if content:
            name = f"{content['kind']}-{content['metadata']['name']}.json"
            (folder / name).write_text(json.dumps(content))


def _remove_halves() -> None:
    """What interrupted builds left: nobody builds now, because the lock is ours."""
    for half in cache_folder().glob("building-*"):
        shutil.rmtree(half, ignore_errors=True)


def _go(arguments: list[str], *, read: bool = False) -> str:
    program = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if program is None:
        raise BuildFailed(
            "the programs are built with Go, which this machine lacks: install it from go.dev/dl"
        )
    done = subprocess.run(
        # A builder that is killed takes its compiler along: Go ends in order by an interrupt.
        ["setpriv", "--pdeathsig", "INT", program, *arguments],
        cwd=MODULE,
        env=_environment(os.environ),
        stdout=subprocess.PIPE if read else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildFailed(
            f"`go {' '.join(arguments)}` in {MODULE} ended with status {done.returncode}, see above"
        )
    return done.stdout or ""


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    # cgo off: the programs need no compiler of C, and run wherever the kernel does.
    return dict(given) | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.kubernetes.build", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="build nothing, only say whether it is there")
    options = parser.parse_args(argv)
    there = built()
    if there is None and options.check:
        print("not built; build it with: make kubernetes")
        return 1
    if there is None:
        print("Building Kubernetes and Envoy Gateway: 15 minutes and more the first time", flush=True)
        start = time.monotonic()
        try:
            there = build()
        except BuildFailed as failure:
            print(failure, file=sys.stderr)
            return 1
        print(f"built in {time.monotonic() - start:.0f} s")
    print(there.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
