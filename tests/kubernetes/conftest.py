"""The cluster that this folder's tests share. Starting it takes long, so it is started once, when first asked for.

A test leaves no object behind that another one would meet: it works in a namespace of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BIN
from tests.kubernetes.build import built
from tests.kubernetes.lab import KubernetesLab


@pytest.fixture(scope="session")
def kubernetes_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesLab]:
    """A running cluster. Tests that use it are marked `needs("root", "namespaces", "envoy", "kubernetes")`."""
    binaries = built()
    assert binaries is not None, "not built: the test lacks its mark needs(...)"
    lab = KubernetesLab(tmp_path_factory.mktemp("kubernetes"), binaries=binaries, envoy=Path(BIN / "envoy"))
    lab.start()
    try:
        yield lab
    finally:
        lab.stop()
