"""The pages' addresses, the forms and links that stand in them, and every name that a view asks a request for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import islice, product
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.http import QueryDict
from django.test import Client
from django.urls import Resolver404, URLPattern, URLResolver, get_resolver, resolve

from tests.fuzz.calls import undone

Fields = tuple[tuple[str, str], ...]
BESIDES = ("api/",)  # has a document, and a test that reads it
ACTIONS = ("pause", "resume", "promote", "rollback", "cancel", "choose", "nothing")
EVERY_ONE = "rollouts/<int:rollout_id>"
CHARTS = ("shares", "traffic", "errors", "ttft", "quality", "evidence", "requests", "latency", "nothing")


def patterns(found: list[Any] | None = None, below: str = "") -> Iterator[str]:
    """The route of every page: `rollouts/<int:rollout_id>/replay`."""
    for one in get_resolver().url_patterns if found is None else found:
        route = below + str(one.pattern)
        if route.startswith(BESIDES):
            continue
        if isinstance(one, URLResolver):
            yield from patterns(one.url_patterns, route)
        elif isinstance(one, URLPattern):
            yield route


def choices(route: str, known: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """For every part of the address the texts that it may be: one, or what is known of its kind."""
    parts = route.split("/")
    found: list[tuple[str, ...]] = []
    for position, part in enumerate(parts):
        before = parts[position - 1] if position else ""
        if not part.startswith("<"):
            found.append((part,))
        elif "action" in part:
            found.append(ACTIONS)
        elif before == "charts":
            found.append(CHARTS)
        else:
            found.append(known.get(before, ("1", "2")))
    return found


def addresses(route: str, known: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Addresses of that route that are there: every rollout, since each is in another phase, of all else two."""
    most = 20 if route == EVERY_ONE else 2
    return ["/" + "/".join(parts) for parts in islice(product(*choices(route, known)), most)]


def methods_of(client: Client, address: str) -> list[str]:
    """GET and POST, as far as they are taken there."""
    allowed = client.options(address).headers.get("Allow", "GET, POST")
    return [method for method in ("GET", "POST") if method in allowed]


class Asked:
    """Names that views ask a query or a form for, learned by listening to every look into one."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], set[str]] = defaultdict(set)

    def found(self) -> dict[tuple[str, str], list[str]]:
        """The names by route and method, in an order of their own."""
        return {key: sorted(names) for key, names in self._names.items()}

    def learn(self, client: Client, route: str, method: str, sent: Sequence[tuple[str, Fields]]) -> None:
        """Sends what pages send there, then with every name that was asked for: one name may uncover another."""
        names = self._names[route, method]
        for round_ in range(3):
            before = len(names)
            for to, fields in sent:
                values = dict.fromkeys(names if round_ else (), "1") | dict(fields)
                with undone(), self._listening(names):
                    client.generic(
                        method,
                        to + ("?" + urlencode(values) if method == "GET" else ""),
                        urlencode(values) if method == "POST" else "",
                        content_type="application/x-www-form-urlencoded",
                    )
            if round_ and len(names) == before:
                return

    @contextmanager
    def _listening(self, names: set[str]) -> Iterator[None]:
        def listener(name: str) -> Any:
            usual = getattr(QueryDict, name)

            def heard(query: QueryDict, key: Any, *args: Any, **kwargs: Any) -> Any:
                names.add(str(key))
                return usual(query, key, *args, **kwargs)

            return heard

        looks = ("get", "getlist", "__getitem__", "__contains__")
        with mock.patch.multiple(QueryDict, **{name: listener(name) for name in looks}):
            yield


class _Page(HTMLParser):
    """Forms and links of a page: (method, address, fields)."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address, self.found = address, []  # type: ignore[var-annotated]
        self._form: list[tuple[str, str]] | None = None
        self._to: tuple[str, str] = ("", "")
        self._select = self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        for name, method in (("href", "GET"), ("hx-get", "GET"), ("hx-post", "POST")):
            if has.get(name, "").startswith("/"):
                parts = urlsplit(has[name])
                own = ((has["name"], has.get("value", "")),) if "name" in has and tag == "button" else ()
                self.found.append(
                    (method, parts.path, (*parse_qsl(parts.query, keep_blank_values=True), *own))
                )
        if tag == "form":
            self._form = []
            self._to = (has.get("method", "get").upper(), has.get("action") or self.address)
        name = has.get("name", "")
        if self._form is None or not name:
            self._area = ""
            if (
                tag == "option"
                and self._select
                and self._form is not None
                and ("selected" in has or not self._has(self._select))
            ):
                self._put(self._select, has.get("value", ""))
            return
        if tag == "select":
            self._select = name
        elif tag == "textarea":
            self._area = name
            self._put(name, "")
        elif tag == "input" and (has.get("type") not in ("checkbox", "radio") or "checked" in has):
            self._put(name, has.get("value", "on"))
        elif tag == "button":
            self._put(name, has.get("value", ""))

    def handle_data(self, data: str) -> None:
        if self._area:
            self._put(self._area, data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""
        elif tag == "select":
            self._select = ""
        elif tag == "form" and self._form is not None:
            self.found.append((*self._to, tuple(self._form)))
            self._form = None

    def _has(self, name: str) -> bool:
        return any(known == name for known, _ in self._form or ())

    def _put(self, name: str, value: str) -> None:
        assert self._form is not None
        self._form = [pair for pair in self._form if pair[0] != name] + [(name, value)]


def harvest(client: Client, pages: list[str]) -> dict[tuple[str, str], list[tuple[str, Fields]]]:
    """What the pages themselves would send, by route and method: forms as they are first shown, links with a query."""
    found: dict[tuple[str, str], dict[tuple[str, Fields], None]] = defaultdict(dict)
    for address in pages:
        answer = client.get(address)
        if answer.status_code != 200 or "html" not in answer.headers["Content-Type"]:
            continue
        page = _Page(address)
        page.feed(answer.content.decode())
        for method, to, fields in page.found:
            try:
                route = resolve(urlsplit(to).path).route
            except Resolver404:
                continue
            found[route, method][to, tuple(fields)] = None
    return {key: list(sent) for key, sent in found.items()}
