"""The configuration of a Kubernetes cluster, read: every field that is wrong is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.clusters.kubernetes.profile_reading import read_profile
from rollouts.adapters.configuration_parts import DNS_LABEL, DNS_NAME, ConfigurationPart, fully
from rollouts.adapters.routers.gateway_api.implementations import IMPLEMENTATIONS
from rollouts.adapters.routers.gateway_api.objects import GatewayParent
from rollouts.adapters.routers.gateway_api.references import LONGEST_NAME
from rollouts.adapters.signals.prometheus.templates import TEMPLATES, GatewayTemplate
from rollouts.domain.clusters import ClusterSpec
from rollouts.domain.secrets import FILE_NAME

FIELDS = (
    "installation", "profile", "gateway", "gateways", "gateway_url", "gateway_address", "prometheus",
    "prometheus_secret", "scrape_seconds", "cluster_uid", "headgate_url", "authorities_secret",
)  # fmt: skip
USUAL_SCRAPE_SECONDS = 5
LONGEST_INSTALLATION = 40
LONGEST_HOST = 253  # of DNS, and of a route's host name
LONGEST_DOMAIN = LONGEST_HOST - LONGEST_NAME - len(".")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as the last part of a host it makes an address of the whole
UID = DNS_NAME
# Those that tell forced requests from drawn ones by themselves: the others need further Services, which nothing makes.
GATEWAYS: Mapping[str, GatewayTemplate] = {
    name: one for name, one in TEMPLATES.items() if one.forced_apart and name in IMPLEMENTATIONS
}


@dataclass(frozen=True, slots=True)
class Place:
    """A configuration as it was read.

    gateway_url      scheme, domain and port by which people reach endpoints: https://models.example
    gateway_address  where this Headgate reaches the gateway, when not by the endpoints' names
    headgate_url     at which pods of the cluster reach this Headgate
    authorities_secret
                     the file with certificates of who vouches for the gateway and for Prometheus; empty: none beside
                     the usual ones
    """

    installation: str
    profile: ClusterProfile
    gateway: str
    gateways: tuple[GatewayParent, ...]
    gateway_url: str
    gateway_address: str
    prometheus: str
    prometheus_secret: str
    scrape_seconds: int
    cluster_uid: str
    headgate_url: str
    authorities_secret: str


def read_place(spec: ClusterSpec) -> tuple[Place | None, list[InvalidInput]]:
    """The place that a configuration names, and all that is wrong with it: one of the two is empty."""
    wrong: list[InvalidInput] = []
    given = ConfigurationPart(spec.configuration, FIELDS, "configuration", wrong)
    configuration = spec.configuration if isinstance(spec.configuration, Mapping) else {}
    profile, of_profile = read_profile(configuration.get("profile"))
    wrong += of_profile
    if profile is not None and not profile.gateway_namespaces:
        given.note(
            "profile.gateway_namespaces",
            "Nobody may reach the engines: no namespace of the gateway's pods is named.",
            fix='Name it, such as ["envoy-gateway-system"].',
        )
    installation = given.matching(
        "installation", DNS_LABEL, "a name in small letters, digits and dashes", "headgate", needed=True
    )
    if len(installation) > LONGEST_INSTALLATION:
        given.note(
            "installation",
            f"installation has more than {LONGEST_INSTALLATION} characters.",
            fix="Shorten it.",
        )
    gateway = given.choice("gateway", tuple(GATEWAYS), next(iter(GATEWAYS))) or ""
    url = given.address("gateway_url") or ""
    if not url:
        if not given.has("gateway_url"):
            given.note(
                "gateway_url", "gateway_url is missing.", fix="Give it, such as https://models.example."
            )
    elif wrong_there := _wrong_domain(url):
        given.note(
            "gateway_url",
            wrong_there,
            fix="Write one such as https://models.example: an endpoint is served at https://NAME.models.example.",
        )
    prometheus = given.address("prometheus") or ""
    if not prometheus and not given.has("prometheus"):
        given.note(
            "prometheus", "prometheus is missing.", fix="Give its address, such as http://prometheus:9090."
        )
    address = given.address("gateway_address") or ""
    gateways = _gateways(given)
    prometheus_secret = given.matching(
        "prometheus_secret", FILE_NAME, "a name of a secret file", "prometheus-token"
    )
    authorities_secret = given.matching(
        "authorities_secret", FILE_NAME, "a name of a secret file", "authorities.pem"
    )
    scrape_seconds = given.number("scrape_seconds", USUAL_SCRAPE_SECONDS, least=1, most=60)
    headgate_url = given.address("headgate_url") or ""
    if profile is not None and profile.weights.filled_by_headgate and not given.has("headgate_url"):
        given.note(
            "headgate_url",
            "Pods fetch their files from Headgate, and nothing says where they reach it.",
            fix="Give the address at which they do, such as https://headgate.example.",
        )
    uid = given.matching("cluster_uid", UID, "a UID", "0b2f3c52-3c0f-4f1b-9d0e-2f6c1a3d5e7f")
    if wrong or profile is None:
        return None, wrong
    return Place(
        installation=installation,
        profile=profile,
        gateway=gateway,
        gateways=gateways,
        gateway_url=url,
        gateway_address=address,
        prometheus=prometheus,
        prometheus_secret=prometheus_secret,
        scrape_seconds=scrape_seconds,
        cluster_uid=uid,
        headgate_url=headgate_url,
        authorities_secret=authorities_secret,
    ), []


def _wrong_domain(url: str) -> str:
    """Why no endpoint can be served at this scheme and domain with its name before it; empty where each can."""
    parts = urlsplit(url)
    domain = str(parts.hostname)
    if not DNS_NAME.fullmatch(domain) or parts.path:
        return "It is no scheme and domain, with or without a port."
    labels = domain.split(".")
    if not all(DNS_LABEL.fullmatch(label) for label in labels):
        return "A part of its domain has more than 63 characters."
    if _NUMBER.fullmatch(labels[-1]):
        return f"{domain} is an address or ends like one, and no endpoint's name can stand before that."
    if len(domain) > LONGEST_DOMAIN:
        fits = f"with an endpoint's name before it at most {LONGEST_DOMAIN} fit"
        return f"Its domain has {len(domain)} characters; {fits}."
    return ""


def _gateways(given: ConfigurationPart) -> tuple[GatewayParent, ...]:
    """The Gateways that serve the routes: NAMESPACE/NAME, or NAMESPACE/NAME/LISTENER."""
    written = given.texts("gateways", _is_gateway, "NAMESPACE/NAME of a Gateway", "envoy-gateway-system/edge")
    if not given.has("gateways") or written == ():
        given.note("gateways", "No Gateway is named.", fix='Name one, such as ["envoy-gateway-system/edge"].')
    found = []
    for one in written:
        namespace, name, *section = one.split("/")
        found.append(GatewayParent(name, namespace, *section))
    return tuple(found)


def _is_gateway(value: str) -> bool:
    parts = value.split("/")
    names = all(fully(DNS_NAME)(part) for part in parts[1:])
    return len(parts) in (2, 3) and fully(DNS_LABEL)(parts[0]) and names
