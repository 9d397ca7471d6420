"""A row whose stored values are odd keeps no other one of its list from the API's callers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import get_resolver
from rest_framework.mixins import ListModelMixin

from controlplane.api.rows import EachByItself


def lists(resolver: Any) -> Iterator[type[ListModelMixin]]:
    """The views of the API that give a list a page at a time."""
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            yield from lists(pattern)
            continue
        view = getattr(pattern.callback, "view_class", None)
        if view is not None and issubclass(view, ListModelMixin):
            yield view


LISTS = {view.__name__: view for view in lists(get_resolver())}


def test_lists__of_the_api__are_found() -> None:
    assert {"Endpoints", "Rollouts", "ModelList", "VersionList"} <= LISTS.keys()


@pytest.mark.parametrize("name", sorted(LISTS))
def test_list__every_one__reads_each_row_by_itself(name: str) -> None:
    meta = getattr(LISTS[name].serializer_class, "Meta", None)  # type: ignore[attr-defined]
    assert getattr(meta, "list_serializer_class", None) is EachByItself
