"""What a model store says, checked before it is believed: whether the registry can keep it. Pure.

Whether it is of the right kind at all was read by `controlplane.kernel.foreign` in the store's adapter.

MLflow is filled by everybody's jobs. A value that no column takes, or that would break an address or a calculation
later, is refused here in words that name it; a text that merely cannot be stored as it is, is made storable.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import shown_value, storable
from registry.ports import StoredDataset, StoredModel, StoredVersion

LONGEST_NAME = 256
LONGEST_ID = 64
LONGEST_RUN_NAME = 250
LONGEST_STATUS = 40
MOST_PAIRS = 10_000  # tags, parameters or metrics of one model or version
LARGEST_NUMBER = 2**31 - 1
LATEST = 4_102_444_800.0  # the year 2100, in seconds since the epoch
FINITE = sys.float_info.max
RENAME = "Rename it in MLflow."


def check_model(stored: StoredModel) -> StoredModel:
    """The model, storable. Raises InvalidInput naming the field that is odd."""
    check_model_name(stored.name)
    for alias, number in stored.aliases.items():
        _check_name(alias, "aliases", "The alias", fix="Remove the alias in MLflow.")
        _check_number(number, f"aliases.{alias}")
    return replace(
        stored,
        description=text(stored.description),
        updated_at=_time(stored.updated_at, "last_updated_timestamp"),
        created_at=_time(stored.created_at, "creation_timestamp"),
        tags=_pairs(stored.tags, "tags"),
    )


def check_model_name(name: str) -> None:
    """Raises InvalidInput for a name that cannot be part of an address."""
    _check_name(name, "name", "The model name", fix=RENAME)
    if "/" in name or name in (".", ".."):
        raise InvalidInput(f"The model name {name!r} cannot be part of an address.", field="name", fix=RENAME)


def check_version(stored: StoredVersion) -> StoredVersion:
    """The version, storable. Raises InvalidInput naming the field that is odd."""
    _check_number(stored.number, "version")
    _check_name(stored.status, "status", "The status", longest=LONGEST_STATUS)
    for value, field in ((stored.run_id, "run_id"), (stored.logged_model_id, "model_id")):
        if value:
            _check_name(value, field, f"The {field}", longest=LONGEST_ID)
    return replace(
        stored,
        source=text(stored.source),
        created_at=_time(stored.created_at, "creation_timestamp"),
        updated_at=_time(stored.updated_at, "last_updated_timestamp"),
        run_name=text(stored.run_name)[:LONGEST_RUN_NAME],
        description=text(stored.description),
        tags=_pairs(stored.tags, "tags"),
        params=_pairs(stored.params, "params"),
        metrics=_metrics(stored.metrics),
        datasets=tuple(
            StoredDataset(text(data.name), text(data.digest), text(data.context)) for data in stored.datasets
        ),
    )


def text(value: Any) -> str:
    """The text without what no database takes: NUL and lone surrogates become the replacement character."""
    if not isinstance(value, str):
        raise InvalidInput(f"{shown_value(value)} is no text.", field="text")
    return storable(value)


def texts(values: Mapping[str, str]) -> dict[str, str]:
    """Names and values, each as `text`."""
    return {text(name): text(value) for name, value in values.items()}


def _pairs(values: Mapping[str, str], field: str) -> dict[str, str]:
    _check_count(values, field)
    return texts(values)


def _check_count(values: Mapping[str, Any], field: str) -> None:
    if len(values) > MOST_PAIRS:
        raise InvalidInput(
            f"{field} has {len(values):,} entries, at most {MOST_PAIRS:,} can be kept.", field=field
        )


def _check_name(value: Any, field: str, what: str, *, longest: int = LONGEST_NAME, fix: str = "") -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{what} is {shown_value(value)}, which is no name.", field=field, fix=fix)
    if len(value) > longest:
        raise InvalidInput(
            f"{what} {value[:40]!r}... has {len(value)} characters, at most {longest} can be kept.",
            field=field,
            fix=fix,
        )
    if not value.isprintable():
        raise InvalidInput(
            f"{what} {shown_value(value)} holds a character that cannot be shown.", field=field, fix=fix
        )


def _check_number(value: Any, field: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_NUMBER:
        raise InvalidInput(f"{field} is {shown_value(value)}, which is no version number.", field=field)


def _time(value: Any, field: str) -> float:
    """Seconds since the epoch; 0 means unknown."""
    if not _is_number(value) or not 0 <= value <= LATEST:
        raise InvalidInput(
            f"{field} is {shown_value(value)}, which is no time between 1970 and 2100.", field=field
        )
    return float(value)


def _metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Those that are finite: JSON cannot hold the others. Raises InvalidInput for what is no number at all."""
    _check_count(values, "metrics")
    kept: dict[str, float] = {}
    for name, value in values.items():
        if not _is_number(value):
            raise InvalidInput(
                f"The metric {shown_value(name)} is {shown_value(value)}, which is no number.",
                field="metrics",
            )
        if -FINITE <= value <= FINITE:
            kept[text(name)] = float(value)
    return kept


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
