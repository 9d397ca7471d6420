"""Proxies: which address can be one, and which variables of the host speak of them. Pure Python.

Libraries read variables such as `HTTP_PROXY`, in any letter case, as an order to send every request through a
proxy, those to this machine too. Headgate asks its own parts and must reach them whatever the host says, so it reads
none of them: a proxy is used where a setting names one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from urllib.parse import urlsplit

from controlplane.kernel.errors import InvalidInput

SCHEMES = ("http", "https", "socks5", "socks5h")


def checked_proxy(address: str, *, setting: str) -> str:
    """The address of a proxy without the white space around it; "" stays "".

    Raises InvalidInput, `field` being the setting, for an address that can be no proxy, and for a SOCKS proxy where
    the library for it is missing. The message never repeats the address: it may hold a password.
    """
    address = address.strip()
    if not address:
        return ""
    problem = _problem(address)
    if problem:
        raise InvalidInput(
            f"{setting} {problem}.",
            field=setting,
            fix="Write scheme://host:port, with scheme one of " + ", ".join(SCHEMES) + ".",
        )
    if address.lower().startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise InvalidInput(
            f"{setting} names a SOCKS proxy, and the Python package socksio, which speaks to one, is not installed.",
            field=setting,
            fix="Install it (pip install 'httpx[socks]'), or name a proxy that begins with http://.",
        )
    return address


def _problem(address: str) -> str:
    if any(character.isspace() or not character.isprintable() for character in address):
        return "holds a blank or a control character"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return "is no address: its host or port cannot be read"
    if parts.scheme not in SCHEMES:
        return "does not begin with the scheme of a proxy"
    if not parts.hostname:
        return "names no host"
    if port == 0:
        return "has the port 0"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "goes on behind host and port"
    return ""


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a program that must reach this machine: without any variable that names a proxy or an
    exception from one, in any letter case. Settings of ours (`HEADGATE_...`) stay.
    """
    return {
        name: value
        for name, value in environment.items()
        if name.startswith("HEADGATE_") or not name.lower().endswith("_proxy")
    }
