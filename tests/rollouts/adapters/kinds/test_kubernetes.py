"""A cluster of the kind `kubernetes` as it is written down: what is refused, what is made of it, where its key is."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.kernel.errors import InvalidInput, Refused
from rollouts.adapters.kinds.kubernetes import KUBERNETES
from rollouts.domain.capabilities import Capability
from rollouts.domain.clusters import ClusterSpec
from rollouts.domain.secrets import SecretFile
from tests.kubernetes.certificates import Authority
from tests.rollouts.adapters.kinds.test_local import installation

IMAGE = f"registry.example/vllm@sha256:{'a' * 64}"
PROFILE: dict[str, Any] = {
    "namespace": "team-a",
    "image": IMAGE,
    "weights": {"kind": "claim", "claim": "models"},
    "gateway_namespaces": ["envoy-gateway-system"],
}
FILLING = {**PROFILE, "weights": {"kind": "claim", "claim": "models", "filled_by": "headgate"}}
SOUND: dict[str, Any] = {
    "installation": "headgate",
    "profile": PROFILE,
    "gateways": ["envoy-gateway-system/edge"],
    "gateway_url": "https://models.example:8443",
    "prometheus": "http://prometheus.example:9090",
}
LONG_DOMAIN = f"{'m' * 48}.{'m' * 48}.{'m' * 48}.{'m' * 48}.exam"  # 200 characters
KUBECONFIG = {
    "current-context": "c",
    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443"}}],
    "users": [{"name": "u", "user": {"token": "a-token-of-headgate"}}],
}


def spec(configuration: Any = None, *, secret: str = "munich") -> ClusterSpec:
    return ClusterSpec("munich", "kubernetes", SOUND if configuration is None else configuration, secret)


def wrong_with(configuration: Any, *, secret: str = "munich") -> list[str]:
    return [one.field for one in KUBERNETES.problems(spec(configuration, secret=secret))]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The operator's folder of clusters' secrets, with a kubeconfig."""
    folder = tmp_path / "secrets" / "clusters"
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o700)
    path = folder / "munich"
    path.write_text(yaml.safe_dump(KUBECONFIG))
    path.chmod(0o600)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"gateway_address": "http://10.0.0.7:80"},
        {"gateway_url": f"https://{LONG_DOMAIN}:8443"},
        {"gateways": ["edge/public", "edge/internal/https"]},
        {"scrape_seconds": 15, "prometheus_secret": "prometheus-token"},
        {"authorities_secret": "authorities.pem"},
        {"cluster_uid": "0b2f3c52-3c0f-4f1b-9d0e-2f6c1a3d5e7f"},
        {"headgate_url": "http://10.0.0.7:8500"},
        {"profile": FILLING, "headgate_url": "https://headgate.example"},
    ],
)
def test_problems__sound_configuration__none(change: dict[str, Any]) -> None:
    assert wrong_with({**SOUND, **change}) == []


@pytest.mark.parametrize("name", ["installation", "profile", "gateways", "gateway_url", "prometheus"])
def test_problems__something_needed_is_missing__its_field_is_named(name: str) -> None:
    left = {key: value for key, value in SOUND.items() if key != name}
    found = wrong_with(left)
    assert found
    assert all(field.startswith(f"configuration.{name}") for field in found)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"installation": "Head Gate"}, "installation"),
        ({"installation": "h" * 41}, "installation"),
        ({"gateway": "Istio"}, "gateway"),
        ({"gateways": []}, "gateways"),
        ({"gateways": ["edge"]}, "gateways.0"),
        ({"gateways": ["edge/public/http/more"]}, "gateways.0"),
        ({"gateways": ["Edge/public"]}, "gateways.0"),
        ({"gateways": ["edge/"]}, "gateways.0"),
        ({"gateway_url": "models.example"}, "gateway_url"),
        ({"gateway_url": "https://models.example/v1"}, "gateway_url"),
        ({"gateway_url": "https://[::1]"}, "gateway_url"),
        ({"gateway_url": "https://10.0.0.7"}, "gateway_url"),
        ({"gateway_url": "https://models.0x7"}, "gateway_url"),
        ({"gateway_url": f"https://{'m' * 64}.example"}, "gateway_url"),
        ({"gateway_url": f"https://{LONG_DOMAIN}s"}, "gateway_url"),
        ({"gateway_address": "10.0.0.7"}, "gateway_address"),
        ({"prometheus": "prometheus:9090"}, "prometheus"),
        ({"prometheus_secret": "../kubeconfig"}, "prometheus_secret"),
        ({"authorities_secret": "../kubeconfig"}, "authorities_secret"),
        ({"scrape_seconds": 0}, "scrape_seconds"),
        ({"cluster_uid": "another cluster"}, "cluster_uid"),
        ({"headgate_url": "headgate.example"}, "headgate_url"),
        ({"headgate_url": "https://user:word@headgate.example"}, "headgate_url"),
        ({"profile": FILLING}, "headgate_url"),
        ({"profile": {**PROFILE, "gateway_namespaces": []}}, "profile.gateway_namespaces"),
        ({"profile": {**PROFILE, "namespace": "Team A"}}, "profile.namespace"),
        ({"profile": []}, "profile"),
        ({"run_dir": "/srv/paris"}, "run_dir"),
    ],
)
def test_problems__odd_value__its_field_is_named(change: dict[str, Any], field: str) -> None:
    assert f"configuration.{field}" in wrong_with({**SOUND, **change})


@pytest.mark.parametrize("configuration", [[], "x", None, 7])
def test_problems__no_object__says_so(configuration: Any) -> None:
    found = KUBERNETES.problems(ClusterSpec("munich", "kubernetes", configuration, "munich"))
    assert found
    assert found[0].field.startswith("configuration")


def test_problems__no_secret__is_asked_for() -> None:
    assert wrong_with(SOUND, secret="") == ["secret"]


def test_build__kubeconfig_is_missing__says_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="secrets/clusters"):
        KUBERNETES.build(spec(), installation(tmp_path))


def test_build__kubeconfig_that_others_may_read__is_refused(tmp_path: Path, secrets: Path) -> None:
    (secrets / "munich").chmod(0o644)
    with pytest.raises(Refused, match="may be read or written by others"):
        KUBERNETES.build(spec(), installation(tmp_path))


def test_build__kubeconfig_that_runs_a_program__is_refused(tmp_path: Path, secrets: Path) -> None:
    user = {"name": "u", "user": {"exec": {"command": "aws"}}}
    (secrets / "munich").write_text(yaml.safe_dump({**KUBECONFIG, "users": [user]}))
    with pytest.raises(InvalidInput, match="exec is not taken"):
        KUBERNETES.build(spec(), installation(tmp_path))


def test_build__kubeconfig__is_no_secret_that_a_serving_spec_may_have(tmp_path: Path, secrets: Path) -> None:
    cluster = KUBERNETES.build(spec(), installation(tmp_path)).cluster
    assert cluster.secret_files() == ()
    store = cluster._secrets  # type: ignore[attr-defined]
    for name in ("munich", "clusters"):
        with pytest.raises(Refused):
            store.open("KEY", SecretFile(name))


@pytest.mark.usefixtures("secrets")
def test_build__endpoints__have_hosts_of_their_own_below_the_domain(tmp_path: Path) -> None:
    ports = KUBERNETES.build(spec(), installation(tmp_path))
    assert ports.endpoint_url("chat") == "https://chat.models.example:8443"


@pytest.mark.usefixtures("secrets")
def test_build__longest_domain__leaves_room_for_every_endpoints_name(tmp_path: Path) -> None:
    ports = KUBERNETES.build(spec({**SOUND, "gateway_url": f"https://{LONG_DOMAIN}"}), installation(tmp_path))
    for endpoint in ("e" * 40, "e" * 60, f"{'e' * 28}-x0123456789"):
        host = ports.endpoint_url(endpoint).removeprefix("https://")
        assert len(host) <= 253
        assert max(map(len, host.split("."))) <= 63


@pytest.mark.usefixtures("secrets")
def test_build__gateway__can_force_a_variant_and_has_no_fallback(tmp_path: Path) -> None:
    ports = KUBERNETES.build(spec(), installation(tmp_path))
    assert ports.router.capabilities() == {Capability.FORCED_VARIANT}
    assert set(ports.edges) == {"duration"}


@pytest.mark.usefixtures("secrets")
def test_build__prometheus_asks_for_a_token_that_is_missing__says_which(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="prometheus-token"):
        KUBERNETES.build(spec({**SOUND, "prometheus_secret": "prometheus-token"}), installation(tmp_path))


@pytest.mark.usefixtures("secrets")
def test_build__authorities_that_are_missing__says_which(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"authorities\.pem"):
        KUBERNETES.build(spec({**SOUND, "authorities_secret": "authorities.pem"}), installation(tmp_path))


def test_build__authorities_that_are_no_certificates__says_so(tmp_path: Path, secrets: Path) -> None:
    (secrets / "authorities.pem").write_text("no certificate")
    (secrets / "authorities.pem").chmod(0o600)
    with pytest.raises(Refused, match="holds no certificate"):
        KUBERNETES.build(spec({**SOUND, "authorities_secret": "authorities.pem"}), installation(tmp_path))


def test_build__authorities_of_its_own__is_built(tmp_path: Path, secrets: Path) -> None:
    (secrets / "authorities.pem").write_text(Authority(tmp_path).certificate.read_text())
    (secrets / "authorities.pem").chmod(0o600)
    there = {**SOUND, "authorities_secret": "authorities.pem", "prometheus": "https://prometheus.example"}
    KUBERNETES.build(spec(there), installation(tmp_path)).close()


def test_occupies__same_name_in_the_same_namespace__is_shared(tmp_path: Path) -> None:
    here = installation(tmp_path)
    one = KUBERNETES.occupies(spec(), here)
    same = KUBERNETES.occupies(replace(spec(), name="berlin", secret="berlin"), here)
    other = KUBERNETES.occupies(spec({**SOUND, "installation": "second"}), here)
    assert one == same
    assert not set().union(*one.values()) & set().union(*other.values())


@pytest.mark.usefixtures("secrets")
def test_build__profile_that_headgate_fills__needs_the_files_here_first(tmp_path: Path) -> None:
    filling = spec({**SOUND, "profile": FILLING, "headgate_url": "https://headgate.example"})
    assert not KUBERNETES.build(filling, installation(tmp_path)).cluster.fetches_files()
    reached = spec({**SOUND, "headgate_url": "https://headgate.example"})
    assert KUBERNETES.build(reached, installation(tmp_path)).cluster.fetches_files()


@pytest.mark.usefixtures("secrets")
def test_close__of_a_cluster_that_nobody_asked_yet__ends_nothing_and_may_be_called_again(
    tmp_path: Path,
) -> None:
    ports = KUBERNETES.build(spec(), installation(tmp_path))
    before = threading.active_count()
    ports.close()
    ports.close()
    assert threading.active_count() == before


@pytest.mark.usefixtures("secrets")
def test_claim__by_cluster_and_router__is_one_thing(tmp_path: Path) -> None:
    """Both tell the same object, so that a token costs one write."""
    ports = KUBERNETES.build(spec(), installation(tmp_path))
    assert ports.cluster._tokens is ports.router._tokens  # type: ignore[attr-defined]
