"""Where the control plane is and how it is reached: address, token and proxy, from options and the environment.

What is refused here is named and never repeated: a token is easily put where the address belongs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure
from controlplane.kernel.errors import InvalidInput
from controlplane.outbound.proxies import checked_proxy

DEFAULT_URL = "http://127.0.0.1:8500"
URL_VARIABLE = "HEADGATE_URL"
TOKEN_VARIABLE = "HEADGATE_TOKEN"  # noqa: S105  (the name of a variable)
LONGEST_TOKEN = 1_000
LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the control plane. `proxy_from` is the variable that named the proxy; "" for both: none."""

    url: str
    token: str = field(repr=False)
    proxy: str = field(default="", repr=False)
    proxy_from: str = ""


def access_of(*, url: str | None, token: str | None, environment: Mapping[str, str]) -> Access:
    """`url` and `token` as options gave them, None where they did not. Raises Failure (usage)."""
    address = _url(url, environment)
    secret = _token(token, environment)
    proxy, variable = proxy_of(address, environment)
    return Access(address, secret, proxy, variable)


def _url(option: str | None, environment: Mapping[str, str]) -> str:
    setting = URL_VARIABLE if option is None else "--url"
    given = environment.get(URL_VARIABLE, DEFAULT_URL) if option is None else option
    address = given.strip()
    problem = _problem_of_url(address)
    if problem:
        raise Failure(
            Exit.USAGE,
            f"{setting} {problem}.",
            fix="Write the address of the control plane, such as https://headgate.example"
            + ("." if option is not None else f", or unset it for {DEFAULT_URL}."),
        )
    return address.rstrip("/")


def _problem_of_url(address: str) -> str:
    if not address:
        return "is empty"
    if not address.lower().startswith(("http://", "https://")):
        return "does not begin with http:// or https://"
    if any(character.isspace() or not character.isprintable() for character in address):
        return "holds a blank or a control character"
    try:
        parts = urlsplit(address)
        port, host = parts.port, httpx.URL(address).host
    except (ValueError, httpx.InvalidURL):
        return f"is no address: its host or its port (1 to {LAST_PORT}) cannot be read"
    if not host or any(not 0 < len(label) < 64 for label in host.rstrip(".").split(".")):
        return "names no host"
    if port == 0:
        return "has the port 0"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or a password, and the token is what says who you are"
    if "?" in address or "#" in address:
        return "goes on with ? or #, and is only the beginning of every address"
    return ""


def _token(option: str | None, environment: Mapping[str, str]) -> str:
    setting = TOKEN_VARIABLE if option is None else "--token"
    given = environment.get(TOKEN_VARIABLE, "") if option is None else option
    token = given.strip()
    get_one = (
        f"Set {TOKEN_VARIABLE}. An administrator makes one on the server: "
        "manage.py create_token PERSON NAME --scopes read,rollouts:write"
    )
    if not token:
        raise Failure(Exit.USAGE, f"There is no API token: {setting} is not set or empty.", fix=get_one)
    for place, character in enumerate(token, start=1):
        if not "!" <= character <= "~":
            raise Failure(
                Exit.USAGE,
                f"{setting} is no API token: character {place} of {len(token)} is one that no token has.",
                fix="Copy it again, without line breaks, blanks or quotation marks.",
            )
    if len(token) > LONGEST_TOKEN:
        raise Failure(Exit.USAGE, f"{setting} is no API token: it has {len(token)} characters.", fix=get_one)
    return token


def proxy_of(address: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """(proxy, variable that names it) for an address, by the usual variables in any letter case; ("", "") for none.

    Never one for this machine itself, which no proxy can reach. Raises Failure (usage) for one that cannot work.
    """
    parts = urlsplit(address)
    host = (parts.hostname or "").rstrip(".").lower()
    # Lower case comes last and wins, as in curl.
    spelled = {name.lower(): name for name in sorted(environment, key=str.swapcase, reverse=True)}
    exceptions = environment.get(spelled.get("no_proxy", ""), "")
    if _is_here(host) or _is_excepted(host, parts.port, exceptions):
        return "", ""
    for wanted in (f"{parts.scheme}_proxy", "all_proxy"):
        variable = spelled.get(wanted, "")
        named = environment.get(variable, "").strip()
        if named:
            return _checked(named, variable, host), variable
    return "", ""


def _checked(named: str, variable: str, host: str) -> str:
    try:
        return checked_proxy(named if "://" in named else f"http://{named}", setting=variable)
    except InvalidInput as error:
        raise Failure(
            Exit.USAGE, error.message, fix=f"{error.fix} To go without a proxy: NO_PROXY={host}."
        ) from None


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_excepted(host: str, port: int | None, exceptions: str) -> bool:
    """Whether NO_PROXY names the host: itself, a domain above it, `host:port`, a network, or `*`."""
    for entry in (part.strip().lower() for part in exceptions.split(",")):
        if entry == "*":
            return True
        name, _, only_port = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
        if only_port and only_port != str(port):
            continue
        name = name.strip("[]").removeprefix("*").removeprefix(".")
        if name and (host == name or host.endswith("." + name) or _is_inside(host, name)):
            return True
    return False


def _is_inside(host: str, network: str) -> bool:
    try:
        return "/" in network and ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
