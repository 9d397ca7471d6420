"""What a model store says, before it is believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from registry.domain.foreign import check_model, check_version
from registry.ports import StoredDataset, StoredModel, StoredVersion

MODEL = StoredModel(
    "llama", "routes tickets", 1_700_000_000.0, aliases={"production": 1}, tags={"owner": "ana"}
)
VERSION = StoredVersion("llama", 3, "models:/m-1", "READY", 1_700_000_000.0, 1_700_000_001.0, run_id="a1b2")


@pytest.mark.parametrize(
    "name", ["llama", "chat model 7B (v2)", "модель-3", "模型", "a" * 256, 'it\'s "quoted"', "a.b"]
)
def test_model__usual_name__passes_as_it_is(name: str) -> None:
    assert check_model(replace(MODEL, name=name)).name == name


@pytest.mark.parametrize(
    "name", ["", "   ", "team/model", ".", "..", "a" * 257, "a\x00b", "a\nb", "\ud800", "a\u202eb"]
)
def test_model__name_that_no_address_or_column_takes__refused_by_name(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_model(replace(MODEL, name=name))
    assert refused.value.field == "name"


@pytest.mark.parametrize("seconds", [1e30, -1.0, float("nan"), float("inf"), "yesterday", None, 10**400])
@pytest.mark.parametrize("field", ["updated_at", "created_at"])
def test_time__none_that_can_be__refused_naming_it(field: str, seconds: Any) -> None:
    with pytest.raises(InvalidInput, match="no time between 1970 and 2100"):
        check_model(replace(MODEL, **{field: seconds}))
    with pytest.raises(InvalidInput, match="no time between 1970 and 2100"):
        check_version(replace(VERSION, **{field: seconds}))


@pytest.mark.parametrize(
    "aliases", [{"": 1}, {"a" * 300: 1}, {"x": 0}, {"x": "seven"}, {"x": 2**40}, {"x": True}, {"a\tb": 1}]
)
def test_alias__odd__refused(aliases: Any) -> None:
    with pytest.raises(InvalidInput):
        check_model(replace(MODEL, aliases=aliases))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("number", 0), ("number", "3"), ("number", 2**31), ("status", ""), ("status", "x" * 41), ("run_id", "r" * 65),
        ("logged_model_id", "m" * 65), ("source", None), ("params", {"lr": 3}), ("metrics", {"loss": "much"}),
    ],
)  # fmt: skip
def test_version__odd_field__refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput):
        check_version(replace(VERSION, **{field: value}))


def test_version__texts_that_no_database_takes__made_storable() -> None:
    checked = check_version(
        replace(
            VERSION,
            description="zero \x00 and half \ud83d",
            run_name="r" * 400,
            tags={"a\x00": "\x00"},
            params={"p": "\udfff"},
            datasets=(StoredDataset("d\x00", "77be"),),
        )
    )
    assert checked.description == "zero \ufffd and half \ufffd"
    assert len(checked.run_name) == 250
    assert (checked.tags, checked.params) == ({"a\ufffd": "\ufffd"}, {"p": "\ufffd"})
    assert checked.datasets[0].name == "d\ufffd"


def test_version__metrics_that_are_not_finite__left_out() -> None:
    odd: dict[str, Any] = {"a": float("nan"), "b": float("inf"), "c": 10**400, "d": 1, "e": 0.5}
    assert check_version(replace(VERSION, metrics=odd)).metrics == {"d": 1.0, "e": 0.5}
