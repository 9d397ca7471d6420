"""References to container images: what is one, and what it names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.images import Image

DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("vllm:v1", Image("vllm", "v1")),
        ("registry.example/team/vllm-openai:v0.33.0", Image("registry.example/team/vllm-openai", "v0.33.0")),
        ("registry.example:5000/vllm:v1", Image("registry.example:5000/vllm", "v1")),
        (f"registry.example:5000/vllm@{DIGEST}", Image("registry.example:5000/vllm", "", DIGEST)),
        (f"vllm:v1@{DIGEST}", Image("vllm", "v1", DIGEST)),
    ],
)
def test_parse__reference__is_read_and_written_the_same(text: str, image: Image) -> None:
    assert Image.parse(text, field="image") == image
    assert str(image) == text
    assert Image.stored(text) == image


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vllm:",
        "vllm@",
        ":v1",
        "Vllm:v1",
        "vllm :v1",
        "vllm:v1\n",
        "vllm:v1;id",
        "--privileged:v1",
        "../vllm:v1",
        "https://registry.example/vllm:v1",
        "registry.example//vllm:v1",
        f"vllm@{DIGEST[:-1]}",
        "vllm@md5:0f",
        f"vllm@{DIGEST}@{DIGEST}",
        "v" * 256 + ":v1",
        "vllm:" + "v" * 129,
    ],
)
def test_parse__no_reference__is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match="no reference") as caught:
        Image.parse(text, field="serving.image")
    assert caught.value.field == "serving.image"


def test_parse__neither_tag_nor_digest__is_refused() -> None:
    with pytest.raises(InvalidInput, match="which image"):
        Image.parse("registry.example:5000/vllm", field="image")


@given(st.text(max_size=40) | st.text("av1.-_:/@", max_size=40))
def test_parse__anything__is_refused_or_written_as_it_was_read(text: str) -> None:
    try:
        image = Image.parse(text, field="image")
    except InvalidInput:
        return
    assert str(image) == text
    assert image.tag or image.digest
