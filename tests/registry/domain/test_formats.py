from __future__ import annotations

import pytest

from registry.domain.formats import refusal_of, refused_files
from registry.domain.manifest import Manifest, ManifestEntry


def manifest(*paths: str) -> Manifest:
    return Manifest.of(ManifestEntry(path, 1, "00") for path in paths)


@pytest.mark.parametrize("name", ["a.bin", "a.PT", "a.pth", "deep/a.pkl", "a.pickle", "a.joblib", "a.ckpt"])
def test_refused_files__pickle_like_suffix__named(name: str) -> None:
    assert refused_files(manifest("model.safetensors", name)) == (name,)


def test_refused_files__safetensors_and_texts__none() -> None:
    assert refused_files(manifest("model.safetensors", "config.json", "tokenizer.model", "binary")) == ()


@pytest.mark.parametrize("allowed", ["optimizer.pt", "deep/optimizer.pt"])
def test_refused_files__allowed_by_name_or_path__passed(allowed: str) -> None:
    assert refused_files(manifest("deep/optimizer.pt"), allowed={allowed}) == ()


def test_refusal_of__some_files__names_them_and_the_rule_and_the_way_out() -> None:
    sentence = refusal_of(("optimizer.pt",))
    assert all(
        words in sentence for words in ("optimizer.pt", ".bin", "safetensors", "allow the file by name")
    )


def test_refusal_of__no_files__empty() -> None:
    assert refusal_of(()) == ""
