"""Whatever a page is sent, in every form and every parameter that it asks for, no answer is a fault of ours."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

import pytest
from django.conf import settings as django
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import odd
from tests.fuzz.calls import MORE, QUIET, check, undone
from tests.fuzz.site import Asked, Fields, addresses, choices, harvest, methods_of, patterns
from tests.fuzz.world import World
from tests.standins.odd import one_of_long

pytestmark = [pytest.mark.django_db, pytest.mark.story]
ROUTES = list(dict.fromkeys(patterns()))
MULTIPART, FORM = "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Site:
    """session    the cookie of an administrator
    sent       what the pages' own forms and links send, by route and method
    asked      every name that a view asked a query or a form for, by route and method
    """

    world: World
    session: str
    sent: dict[tuple[str, str], list[tuple[str, Fields]]]
    asked: dict[tuple[str, str], list[str]]


@pytest.fixture(scope="module")
def site(world: World) -> Site:
    signed_in = Client()
    signed_in.force_login(world.admin)
    session = signed_in.cookies[django.SESSION_COOKIE_NAME].value

    def client() -> Client:
        made = Client(raise_request_exception=False)
        made.cookies[django.SESSION_COOKIE_NAME] = session
        return made

    sent = harvest(client(), [one for route in ROUTES for one in addresses(route, world.values)])
    asked = Asked()
    for route in ROUTES:
        plain = addresses(route, world.values)[0]
        for method in methods_of(client(), plain):
            asked.learn(client(), route, method, sent.get((route, method), [])[:3] or [(plain, ())])
    return Site(world, session, sent, asked.found())


@pytest.mark.parametrize("route", ROUTES)
def test_page__anything_sent__is_no_fault_of_ours(route: str, site: Site) -> None:
    allowed = sorted(method for known, method in site.asked if known == route)
    names = sum(len(site.asked[route, method]) for method in allowed)

    @settings(max_examples=(6 + min(2 * names, 24)) * MORE, **QUIET)
    @given(data=st.data())
    def send(data: st.DataObject) -> None:
        usual = bool(data.draw(st.integers(0, 11)))
        ask(
            site,
            route,
            data.draw(st.sampled_from(allowed if usual else ["HEAD", "PUT", "ODD", "POST"])),
            data,
        )

    send()


def ask(site: Site, route: str, method: str, data: st.DataObject) -> None:
    """One request, undone afterwards."""
    address, fields = base(site, route, method, data)
    fields = with_odd_ones(fields, site.asked.get((route, method), []), data)
    headers = {"HX-Request": "true"} if data.draw(st.booleans()) else {}
    if not data.draw(st.integers(0, 5)):
        name, value = data.draw(one_of_long(odd.HEADERS))
        headers[name] = value
    text = urlencode(fields, errors="surrogatepass")
    kind, body = FORM, b""
    if method == "POST":
        body = text.encode()
        shape = data.draw(st.integers(0, 11))
        if shape == 0:
            body, kind = (
                data.draw(one_of_long(odd.RAW_BODIES)),
                data.draw(st.sampled_from((FORM, MULTIPART))),
            )
        elif shape < 4:
            kind, body = MULTIPART, multipart(fields)
    elif text:
        address += ("&" if "?" in address else "?") + text[:60_000]
    client = Client(raise_request_exception=False)
    if data.draw(st.integers(0, 11)):
        client.cookies[django.SESSION_COOKIE_NAME] = site.session
    with undone():
        answer = client.generic(
            method, address, body, content_type=headers.pop("Content-Type", kind), headers=headers
        )
    check(answer, f"{method} {route}", address, headers, body)


def base(site: Site, route: str, method: str, data: st.DataObject) -> tuple[str, list[tuple[str, str]]]:
    """What a page would send there, or an address of that route with nothing."""
    found = site.sent.get((route, method), [])
    usual = data.draw(st.integers(0, 5))
    if found and usual:
        address, fields = data.draw(st.sampled_from(found))
        return address, list(fields)
    parts = []
    for texts in choices(route, site.world.values):
        is_there = len(texts) == 1 or data.draw(st.integers(0, 7))
        part = data.draw(st.sampled_from(texts) if is_there else odd.paths)
        parts.append(quote(part, safe="", errors="surrogatepass"))
    return "/" + "/".join(parts), []


def with_odd_ones(
    fields: list[tuple[str, str]], asked: list[str], data: st.DataObject
) -> list[tuple[str, str]]:
    """The same with up to three values replaced by odd ones, among them names that are asked for and were not sent."""
    names = sorted({name for name, _ in fields} | set(asked))
    chosen = data.draw(st.lists(st.sampled_from(names), max_size=3, unique=True)) if names else []
    odd_ones = [(name, data.draw(odd.texts)) for name in chosen]
    return [(name, value) for name, value in fields if name not in chosen] + odd_ones


def multipart(fields: list[tuple[str, str]]) -> bytes:
    """The fields as parts, one of seven as a file."""
    parts = []
    for position, (name, value) in enumerate(fields):
        file = f'; filename="{value[:20]}"' if position % 7 == 6 or name == "file" else ""
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append((head + value + "\r\n").encode(errors="surrogatepass"))
    return b"".join(parts) + b"--x--\r\n"
