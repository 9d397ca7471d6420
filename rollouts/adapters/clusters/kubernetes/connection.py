"""The connection to an API server, from the kubeconfig that the operator gave as the cluster's secret.

Only plain credentials are taken: a token, or a client certificate. A kubeconfig may also name programs to be run for
credentials, and switch off the check of who answers: such ones are refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from pathlib import Path

import yaml
from kubernetes import client
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import Fields, words_of
from controlplane.sealing.known import remember

LONGEST = 200_000  # characters of a kubeconfig
CLUSTER = frozenset({"server", "certificate-authority-data", "certificate-authority", "tls-server-name"})
USER = frozenset({"token", "client-certificate-data", "client-key-data", "client-certificate", "client-key"})


def api_client(kubeconfig: str, folder: Path) -> client.ApiClient:
    """A client that connects when it is used. It retries nothing, and reads no proxy from the environment.

    folder   of Headgate's own: a client certificate has to lie in files

    Raises InvalidInput (`secret`) for what is no kubeconfig, or one with what we do not take.
    """
    cluster, user = _parts(kubeconfig)
    settings = client.Configuration(host=_server(cluster))
    settings.proxy = None  # else that of the environment
    settings.retries = False
    # A watch is silent for a minute where nothing happens: a server that is gone shows after half of that.
    settings.socket_options = tcp_keepalive_socket_options(idle=15, interval=5, count=3)
    settings.verify_ssl = True
    authority = cluster.text("certificate-authority-data", "")
    if authority:
        # As text: bytes are taken for another form of certificates.
        settings.ca_cert_data = _decoded(authority, "certificate-authority-data").decode(errors="replace")
    elif cluster.text("certificate-authority", ""):
        settings.ssl_ca_cert = cluster.text("certificate-authority")
    if cluster.text("tls-server-name", ""):
        settings.tls_server_name = cluster.text("tls-server-name")
    token = user.text("token", "").strip()
    if not (token.isascii() and token.isprintable()):
        raise _wrong("its token holds what no header can")
    if token:
        remember(token)
        settings.api_key = {"authorization": token}
        settings.api_key_prefix = {"authorization": "Bearer"}
    settings.cert_file = _file(user, "client-certificate", folder)
    settings.key_file = _file(user, "client-key", folder)
    if not token and settings.cert_file is None:
        raise _wrong("its user has neither a token nor a client certificate")
    return client.ApiClient(settings)


def state_of(kubeconfig: str) -> str:
    """A digest of all that a connection is made from: the kubeconfig and the files that it names. A file that cannot be
    read counts as an empty one."""
    digest = hashlib.sha256(kubeconfig.encode())
    for path in _files_of(kubeconfig):
        try:
            content = path.read_bytes() if path.is_file() else b""  # a pipe would hold who asks for ever
        except OSError:
            content = b""
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _files_of(kubeconfig: str) -> list[Path]:
    try:
        cluster, user = _parts(kubeconfig)
        named = [cluster.text("certificate-authority", "")]
        named += [user.text(one, "") for one in ("client-certificate", "client-key")]
    except InvalidInput:
        return []  # no connection is made from that
    return [Path(one) for one in named if one]


def _parts(kubeconfig: str) -> tuple[Fields, Fields]:
    """The cluster and the user of the current context."""
    if len(kubeconfig) > LONGEST:
        raise _wrong(f"it has more than {LONGEST:,} characters")
    try:
        raw = Fields(yaml.safe_load(kubeconfig), "The kubeconfig")
        context = _named(raw, "contexts", raw.text("current-context")).needed("context")
        cluster = _taken(_named(raw, "clusters", context.text("cluster")), "cluster", CLUSTER)
        user = _taken(_named(raw, "users", context.text("user")), "user", USER)
    except InvalidInput as error:
        raise _wrong(error.message) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _wrong(f"it is no YAML ({type(error).__name__})") from None
    return cluster, user


def _named(raw: Fields, of: str, name: str) -> Fields:
    for part in raw.parts(of):
        if part.has("name", name):
            return part
    raise raw.odd(f"it has no {name!r}", of)


def _taken(part: Fields, name: str, known: frozenset[str]) -> Fields:
    """The object in that field, which may have only what is known."""
    found = part.needed(name)
    for one in found.names():
        if one not in known:
            raise found.odd(f"{words_of(one, 60)} is not taken")
    return found


def _server(cluster: Fields) -> str:
    server = cluster.text("server", "")
    if not server.startswith("https://"):
        raise _wrong("its server is no https address")
    return server.rstrip("/")


def _decoded(value: str, name: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(f"{name} is not Base64") from None


def _file(user: Fields, name: str, folder: Path) -> str | None:
    """The path of a part of the client certificate, written where it came as a value."""
    data = user.text(f"{name}-data", "")
    if not data:
        return user.text(name, "") or None
    content = _decoded(data, f"{name}-data")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.pem"
    aside = folder / f"{name}.pem.{os.getpid()}"
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(content)
    aside.replace(path)
    return str(path)


def _wrong(what: str) -> InvalidInput:
    return InvalidInput(
        f"The cluster's secret is no kubeconfig that Headgate takes: {what}.",
        field="secret",
        fix="Give one with a server, its certificate authority, and a token or a client certificate.",
        code="kubeconfig",
    )
