"""A test that needs a missing part is skipped with the command that brings it, and fails under REQUIRE=all."""

from __future__ import annotations

import pytest

from tests.conftest import PARTS, Part, pytest_runtest_setup


@pytest.fixture
def item(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> pytest.Item:
    """This very test, marked as needing a part that no machine has."""
    found: pytest.Item = request.node
    found.add_marker(pytest.mark.needs("unicorn"))
    monkeypatch.setitem(PARTS, "unicorn", Part(lambda: False, "make unicorn"))
    return found


def test_needs__part_missing__skips_and_names_the_command(
    item: pytest.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs unicorn; bring it with: make unicorn"):
        pytest_runtest_setup(item)


def test_needs__part_missing_under_require_all__fails(
    item: pytest.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE", "all")
    with pytest.raises(pytest.fail.Exception, match="needs unicorn"):
        pytest_runtest_setup(item)


def test_needs__no_command_brings_it__skips_even_under_require_all(
    item: pytest.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE", "all")
    monkeypatch.setitem(PARTS, "unicorn", Part(lambda: False, ""))
    with pytest.raises(pytest.skip.Exception, match="does not have"):
        pytest_runtest_setup(item)


def test_needs__part_present__runs(item: pytest.Item, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "unicorn", Part(lambda: True, "make unicorn"))
    pytest_runtest_setup(item)


def test_needs__unknown_part__fails(item: pytest.Item, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(PARTS, "unicorn")
    with pytest.raises(pytest.fail.Exception, match="no such part"):
        pytest_runtest_setup(item)
