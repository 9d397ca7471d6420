"""Addresses of servers in settings: whether one can be used. Pure Python.

None is ever repeated in a message: it may hold a password.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from controlplane.kernel.errors import InvalidInput


def checked_redis(address: str, *, setting: str) -> str:
    """The address of a Redis server without white space around it; "" stays "".

    Raises InvalidInput, `field` being the setting, for anything but redis://, rediss:// or unix:// with what they need.
    """
    address = address.strip()
    if address and not _is_redis(address):
        raise InvalidInput(
            f"{setting} is no address of a Redis server.",
            field=setting,
            fix="Write redis://:PASSWORD@HOST:PORT/NUMBER, rediss:// for TLS, or unix:///PATH; of user and password"
            " the characters @ : / ? # % as %40 %3A %2F %3F %23 %25.",
        )
    return address


def checked_listening(address: str, *, setting: str) -> str:
    """HOST:PORT where a server is to listen, without white space around it; an IPv6 address in brackets.

    Raises InvalidInput, `field` being the setting.
    """
    address = address.strip()
    try:
        parts = urlsplit(f"//{address}")
        usable = bool(parts.hostname) and parts.port is not None and parts.netloc == address
    except ValueError:
        usable = False
    if not usable or "@" in address or any(character.isspace() for character in address):
        raise InvalidInput(
            f"{setting} is no address to listen on.",
            field=setting,
            fix="Write HOST:PORT, such as 0.0.0.0:4317 or [::]:4317.",
        )
    return address


def _is_redis(address: str) -> bool:
    if any(character.isspace() or not character.isprintable() for character in address):
        return False
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    if parts.query or parts.fragment or port == 0:
        return False
    if parts.scheme == "unix":
        return bool(parts.path.strip("/"))
    number = parts.path.strip("/")
    return parts.scheme in ("redis", "rediss") and bool(parts.hostname) and (number.isdecimal() or not number)
