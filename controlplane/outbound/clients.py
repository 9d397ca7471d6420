"""Makes HTTP clients. Nothing else of ours does: a client made elsewhere would read the host's proxy variables.

A test walks through the sources and finds any other place (`tests/controlplane/outbound/test_one_place.py`).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import httpx

from controlplane.kernel.errors import InvalidInput
from controlplane.outbound.deadlines import with_deadlines

LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)  # what httpx takes by itself


def local_client(
    *,
    base_url: str = "",
    headers: Mapping[str, str] | None = None,
    timeout: float | httpx.Timeout = 5.0,
    limits: httpx.Limits = LIMITS,
    transport: httpx.BaseTransport | None = None,
) -> httpx.Client:
    """A client for our own parts: the router, engines, the stack. Reads nothing from the environment and uses no proxy.

    `timeout` in seconds. `transport` takes the place of the network.
    """
    return httpx.Client(
        base_url=base_url,
        headers=dict(headers or {}),
        timeout=timeout,
        transport=transport or with_deadlines(httpx.HTTPTransport(limits=limits, trust_env=False)),
        follow_redirects=False,
        trust_env=False,
    )


def remote_client(
    url: str,
    *,
    proxy: str = "",
    headers: Mapping[str, str] | None = None,
    timeout: float | httpx.Timeout = 5.0,
    authorities: str = "",
    transport: httpx.BaseTransport | None = None,
) -> httpx.Client:
    """A client for a server that may be far away. It goes through `proxy` and no other; "" is none.

    `proxy` is as `proxies.checked_proxy` gives it. Servers are known by the usual certificates, or by those that
    SSL_CERT_FILE and SSL_CERT_DIR name, and by those of `authorities` (PEM) beside them. Redirects are not followed.
    Raises InvalidInput when those certificates cannot be read, httpx.InvalidURL when `url` is no address.
    """
    secure = any(address.lower().startswith("https:") for address in (url, proxy))
    context = _certificates() if secure else None
    if authorities and context is not None:
        _add_authorities(context, authorities)
    if transport is None:
        transport = with_deadlines(
            httpx.HTTPTransport(
                verify=context or True,
                proxy=_proxy(proxy, context) if proxy else None,
                limits=LIMITS,
                trust_env=False,
            )
        )
    return httpx.Client(
        base_url=url.rstrip("/"),
        headers=dict(headers or {}),
        timeout=timeout,
        transport=transport,
        follow_redirects=False,
        trust_env=False,
    )


def _proxy(address: str, context: ssl.SSLContext | None) -> httpx.Proxy:
    return httpx.Proxy(address, ssl_context=context if address.lower().startswith("https:") else None)


def _add_authorities(context: ssl.SSLContext, pem: str) -> None:
    try:
        context.load_verify_locations(cadata=pem)
    except (
        OSError,
        TypeError,
        ValueError,
    ) as error:  # ssl.SSLError is an OSError; TypeError: letters beyond ASCII
        raise InvalidInput(
            f"The certificates of authorities cannot be read: {error}.",
            field="authorities",
            fix="Give them as PEM: each from BEGIN CERTIFICATE to END CERTIFICATE.",
        ) from error


def _certificates() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        raise InvalidInput(
            f"The certificates that servers are known by cannot be read: {error}.",
            field="SSL_CERT_FILE",
            fix="Correct SSL_CERT_FILE and SSL_CERT_DIR, or unset them.",
        ) from error
