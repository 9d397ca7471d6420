"""What surrounds every page. The apps register their part when they start; this room never imports them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest

from controlplane.kernel.words import count_text


@dataclass(frozen=True, slots=True)
class NavItem:
    """A place in the sidebar. `key` is what a page calls its section; `letter` is the key after `g`; `more` is the
    part of the name that a phone leaves out."""

    key: str
    icon: str
    label: str
    url_name: str
    letter: str
    order: int
    group: int = 0
    more: str = ""


@dataclass(frozen=True, slots=True)
class Banner:
    """A band over every page, rendered from `template` with `context`."""

    template: str
    context: dict[str, object]


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result."""

    kind: str
    icon: str
    title: str
    hint: str
    url: str


@dataclass(frozen=True, slots=True)
class Hits:
    """What one source found: the best, and how many there are in all of what it finds (`thing` says one of
    them, `things` several where an s is not enough)."""

    thing: str
    best: list[Hit]
    in_all: int
    things: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; `not_listed` says how many more there are of what, empty when all are listed."""

    hits: list[Hit]
    not_listed: str


BannerSource = Callable[[HttpRequest], Banner | None]
SearchSource = Callable[[str, int], Hits]

_nav: dict[str, NavItem] = {}
_banners: list[BannerSource] = []
_searches: list[SearchSource] = []


def add_nav_item(item: NavItem) -> None:
    """Puts a place into the sidebar; registering the same key again replaces it."""
    _nav[item.key] = item


def nav_items() -> list[NavItem]:
    """All places, in order."""
    return sorted(_nav.values(), key=lambda item: (item.group, item.order))


def add_banner_source(source: BannerSource) -> None:
    """`source(request)` is asked on every full page; it must cost at most one query."""
    if source not in _banners:
        _banners.append(source)


def banners(request: HttpRequest) -> list[Banner]:
    """The bands that apply now."""
    return [banner for source in _banners if (banner := source(request)) is not None]


def add_search_source(source: SearchSource) -> None:
    """`source(words, limit)` returns at most `limit` hits, best first, and how many there are; at most one query."""
    if source not in _searches:
        _searches.append(source)


def search(words: str, *, limit: int = 6) -> Found:
    """Hits of every source for `words`, at most `limit` from each; none for an empty search."""
    if not words.strip():
        return Found([], "")
    found = [source(words.strip(), limit) for source in _searches]
    more = [(one.in_all - len(one.best), one) for one in found]
    return Found(
        hits=[hit for one in found for hit in one.best],
        not_listed=", ".join(count_text(number, of.thing, of.things) for number, of in more if number > 0),
    )
