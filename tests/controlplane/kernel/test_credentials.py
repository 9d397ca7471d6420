from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.credentials import (
    HIDDEN,
    SHORTEST,
    hide,
    hide_in_lines,
    is_like_a_credential,
    names_a_credential,
)

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq\nqXk1aZ0d9w==\n-----END RSA PRIVATE KEY-----"
LOOK_ALIKE = [
    "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345",
    "hf_short1",
    "sk-proj-abcdefghijklmnopqrst",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijkl",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    PEM,
    "postgresql://headgate:pa55word@db.example:5432/headgate",
    "Bearer abcdefgh12345678",
]
ORDINARY = [
    "auto",
    "0-3,8-11",
    "http://127.0.0.1:8500/a@b",
    "https://example.org/path?at=me@example.org",
    "sk-learn",
    "task-force-of-the-people-in-charge",
    "Asia/Tokyo",
    "max_tokens=256",
    "models/hf_config",
    "a Bearer of news",
]


@pytest.mark.parametrize("value", LOOK_ALIKE)
def test_value__known_kind_of_credential__is_seen_and_taken_out(value: str) -> None:
    assert is_like_a_credential(value)
    if len(value) > 12:
        text = hide(f"before {value} after")
        assert text.startswith("before ")
        assert value not in text


@pytest.mark.parametrize("value", ORDINARY)
def test_value__ordinary_text__is_left_alone(value: str) -> None:
    assert not is_like_a_credential(value)
    assert hide(f"it is {value} here") == f"it is {value} here"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("HF_TOKEN", True), ("api-key", True), ("apiKey", True), ("DB_PASSWORD", True), ("MODEL_SECRET", True),
        ("Authorization", True), ("AWS_CREDENTIALS", True), ("MAX_TOKENS", False), ("TOKENIZER", False),
        ("MONKEY", False), ("OMP_NUM_THREADS", False),
    ],
)  # fmt: skip
def test_name__words_of_it__tell(name: str, is_one: bool) -> None:
    assert names_a_credential(name) is is_one


@pytest.mark.parametrize(
    "text",
    [
        "HF_TOKEN=opensesame",
        'password: "opensesame"',
        '{"api_key": "opensesame"}',
        "DB_PASSWORD='opensesame'",
    ],
)
def test_hide__named_value_in_a_text__is_taken_out(text: str) -> None:
    assert "opensesame" not in hide(text)


@given(st.text(min_size=SHORTEST), st.text(), st.text())
def test_hide__known_secret__is_in_no_text_however_it_is_written(
    secret: str, before: str, after: str
) -> None:
    for written in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]):
        if len(written) >= SHORTEST and written not in HIDDEN * 2:
            assert written not in hide(before + written + after, [secret]) or written in before + after


def test_hide__short_secret_inside_of_a_token__breaks_nothing() -> None:
    assert hide("told hf_opensesame0123456 to 1234", ["1234"]) == f"told {HIDDEN} to {HIDDEN}"


def test_hide__secrets_that_overlap_or_touch__all_go() -> None:
    assert hide("x abcdefgh y", ["abcde", "defgh"]) == f"x {HIDDEN} y"
    assert hide("abcddefg", ["abcd", "defg"]) == HIDDEN * 2


def test_hide_in_lines__secret_of_several_lines__every_line_of_it_goes() -> None:
    lines = hide_in_lines(["loading", *PEM.splitlines(), "done"])
    assert (lines[0], lines[-1]) == ("loading", "done")
    assert "MIIEowIBAAKCAQEA7bq" not in "\n".join(lines)
    own = "the first line of it\nand the second one"
    assert hide_in_lines(["x", "and the second one", "y"], [own]) == ("x", HIDDEN, "y")


@pytest.mark.parametrize("piece", ["a", "eyJ", "a:", "token", "hf_", "http://a:", "password=\n", PEM[:32]])
def test_hide__long_hostile_text__takes_no_longer_than_its_length(piece: str) -> None:
    began = time.process_time()
    hide(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 5
