"""Every process that shares the tests finds the same ones, and nothing that is asked for is left out."""

from __future__ import annotations

import pytest

from tests.conftest import pytest_collection_modifyitems


def test_collection__test_told_of_a_set__is_refused(request: pytest.FixtureRequest) -> None:
    item: pytest.Item = request.node
    item.add_marker(pytest.mark.parametrize("one", {"a", "b"}))
    with pytest.raises(pytest.UsageError, match="processes that share the tests order it differently"):
        pytest_collection_modifyitems([item])


def test_collection__mark_that_its_file_does_not_say__is_refused(request: pytest.FixtureRequest) -> None:
    item: pytest.Item = request.node
    item.add_marker("whole")
    with pytest.raises(pytest.UsageError, match="has the mark whole, and its file does not say so"):
        pytest_collection_modifyitems([item])
