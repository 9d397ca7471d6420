"""Which files count as weights."""

from __future__ import annotations

import pytest

from controlplane.kernel.errors import InvalidInput
from registry.domain.manifest import ManifestEntry
from rollouts.domain.capacity.weight_files import weight_bytes


def entries(**sizes: int) -> list[ManifestEntry]:
    return [
        ManifestEntry(name.replace("__", "/").replace("_st", ".safetensors"), size, "aa" * 32)
        for name, size in sizes.items()
    ]


def test_weights__several_files__are_added_up() -> None:
    assert weight_bytes(entries(a_st=5, b_st=7, tokenizer=100)) == 12


def test_weights__the_same_once_more_in_another_layout__count_once() -> None:
    assert weight_bytes(entries(model_st=12, consolidated_st=13)) == 12


def test_weights__in_the_other_layout_only__count() -> None:
    assert weight_bytes(entries(consolidated_st=13)) == 13


def test_weights__in_folders_below_and_of_adapters__do_not_count() -> None:
    assert weight_bytes(entries(model_st=12, original__model_st=99, adapter_model_st=3)) == 12


@pytest.mark.parametrize("sizes", [{}, {"tokenizer": 5}, {"adapter_model_st": 5}, {"model_st": 0}])
def test_weights__none__is_said(sizes: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="no weights"):
        weight_bytes(entries(**sizes))
