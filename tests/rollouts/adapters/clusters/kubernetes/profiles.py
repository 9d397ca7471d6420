"""Profiles of clusters for tests: each sound, changed where a test wants it."""

from __future__ import annotations

from typing import Any

from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.clusters.kubernetes.profile_reading import read_profile

DIGEST = "sha256:" + "6f1e2d" + "0" * 58
IMAGE = f"registry.example/vllm@{DIGEST}"
FETCHES = {
    "kind": "init_container",
    "image": f"registry.example/fetch@{DIGEST}",
    "sources": ["s3://models/"],
    "egress": ["10.0.0.0/8"],
}
FILLED = {"kind": "claim", "claim": "models", "filled_by": "headgate"}
SOUND: dict[str, Any] = {
    "namespace": "team-a",
    "image": IMAGE,
    "accelerators": ["nvidia.com/gpu"],
    "weights": {"kind": "claim", "claim": "models"},
}


def profile_of(**changes: Any) -> ClusterProfile:
    profile, problems = read_profile({**SOUND, **changes})
    assert problems == ()
    assert profile is not None
    return profile
