"""Whatever a page is sent, in every form and every parameter it asks for, no answer is a fault of ours."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import pytest
from django.conf import settings as django
from django.db import transaction
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz import odd
from tests.fuzz.site import Asked, choices, harvest, patterns
from tests.fuzz.world import World

pytestmark = [pytest.mark.django_db, pytest.mark.story]
MORE = int(os.environ.get("FUZZ", "1"))
ROUTES = list(dict.fromkeys(patterns()))
MULTIPART = "multipart/form-data; boundary=x"
FORM = "application/x-www-form-urlencoded"
seen: Counter[tuple[str, str, int]] = Counter()


@dataclass
class Site:
    world: World
    session: str
    sent: dict[tuple[str, str], list[tuple[str, tuple[tuple[str, str], ...]]]]
    asked: Asked


@pytest.fixture(scope="module")
def site(world: World) -> Iterator[Site]:
    client = Client(raise_request_exception=False)
    client.force_login(world.admin)
    addresses = []
    for route in ROUTES:
        known = choices(route, world.values)
        addresses += ["/" + "/".join(parts) for parts in itertools.islice(itertools.product(*known), 12)]
    asked = Asked()
    with asked.listening():
        yield Site(world, client.cookies[django.SESSION_COOKIE_NAME].value, harvest(client, addresses), asked)


@pytest.mark.parametrize("route", ROUTES)
def test_page__anything_sent__is_no_fault_of_ours(route: str, site: Site) -> None:
    @settings(
        max_examples=14 * MORE,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def send(data: st.DataObject) -> None:
        ask(site, route, data)

    send()


def ask(site: Site, route: str, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(("GET", "GET", "POST", "POST", "POST", "HEAD", "PUT", "ODD")))
    address, fields = base(site, route, method, data)
    fields = mutated(fields, sorted(site.asked.names[route, method]), data)
    headers = {"HX-Request": "true"} if data.draw(st.booleans()) else {}
    if not data.draw(st.integers(0, 4)):
        name, value = data.draw(st.sampled_from(odd.HEADERS))
        headers[name] = value
    text = urlencode(fields, errors="surrogatepass")
    kind, body = FORM, text.encode()
    if method == "POST":
        shape = data.draw(st.integers(0, 9))
        if shape == 0:
            body = data.draw(st.sampled_from(odd.RAW_BODIES))
            kind = data.draw(st.sampled_from((FORM, MULTIPART, "application/json")))
        elif shape < 4:
            kind, body = MULTIPART, multipart(fields)
    elif text:
        address += "?" + text[:60_000]
    client = Client(raise_request_exception=False)
    if data.draw(st.integers(0, 7)):
        client.cookies[django.SESSION_COOKIE_NAME] = site.session
    with transaction.atomic(), site.asked.during(route, method):
        answer = client.generic(
            method,
            address,
            data=body if method == "POST" else b"",
            content_type=headers.pop("Content-Type", kind),
            headers=headers,
        )
        transaction.set_rollback(True)
    seen[route, method, answer.status_code] += 1
    if os.environ.get("COUNT") and answer.status_code >= 500:
        print("COUNT5XX", answer.status_code, str(getattr(answer, "exc_info", None))[:200])
        return
    assert answer.status_code < 500, (
        method,
        address[:300],
        fields if len(str(fields)) < 800 else str(fields)[:800],
        headers,
        body[:200],
    )


def base(site: Site, route: str, method: str, data: st.DataObject) -> tuple[str, list[tuple[str, str]]]:
    """What a page would send there, or an address of that route with nothing."""
    found = site.sent.get((route, method), [])
    if found and data.draw(st.integers(0, 5)):
        address, fields = data.draw(st.sampled_from(found))
        return address, list(fields)
    parts = []
    for texts in choices(route, site.world.values):
        usual = len(texts) == 1 or data.draw(st.integers(0, 7))
        parts.append(
            quote(data.draw(st.sampled_from(texts) if usual else odd.paths), safe="", errors="surrogatepass")
        )
    return "/" + "/".join(parts), []


def mutated(fields: list[tuple[str, str]], asked: list[str], data: st.DataObject) -> list[tuple[str, str]]:
    """The same with up to three values replaced by odd ones, among them names that are asked for and were not sent."""
    names = sorted({name for name, _ in fields} | set(asked))
    odd_ones = {}
    if names:
        odd_ones = {
            name: data.draw(odd.texts) for name in data.draw(st.lists(st.sampled_from(names), max_size=3))
        }
    return [(name, value) for name, value in fields if name not in odd_ones] + list(odd_ones.items())


def multipart(fields: list[tuple[str, str]]) -> bytes:
    parts = []
    for position, (name, value) in enumerate(fields):
        file = f'; filename="{value[:20]}"' if position % 7 == 6 else ""
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append((head + value + "\r\n").encode(errors="surrogatepass"))
    return b"".join(parts) + b"--x--\r\n"


def test_zz(site: Site) -> None:
    total: Counter[int] = Counter()
    for (_, _, status), n in seen.items():
        total[status] += n
    print(total, sum(total.values()))
    for key in sorted({(route, method) for route, method, _ in seen}):
        print(
            "PAGE",
            *key,
            {status: n for (*k, status), n in seen.items() if tuple(k) == key},
            len(site.sent.get(key, [])),
            sorted(site.asked.names[key])[:30],
        )
