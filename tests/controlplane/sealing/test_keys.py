from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput, Refused
from controlplane.sealing.keys import KeyMissing, KeyRing, checked_keys, new_key

OLD, NEW = new_key(), new_key()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_ring__what_it_sealed__it_opens(secret: str) -> None:
    ring = KeyRing([NEW, OLD])
    sealed = ring.seal(secret)
    assert ring.open(sealed, what="it") == secret
    assert len(secret) < 4 or secret not in sealed


def test_ring__same_text_twice__gives_two_tokens() -> None:
    assert KeyRing([NEW]).seal("1234") != KeyRing([NEW]).seal("1234")


def test_renew__under_an_old_key__is_under_the_newest_and_opens_without_the_old() -> None:
    sealed = KeyRing([OLD]).seal("open-sesame-1")
    renewed = KeyRing([NEW, OLD]).renew(sealed, what="it")
    assert KeyRing([NEW]).open(renewed, what="it") == "open-sesame-1"
    assert KeyRing([NEW, OLD]).renew(renewed, what="it") == renewed


@pytest.mark.parametrize("keys", [[NEW], []])
def test_open__key_is_not_here__names_what_cannot_be_read(keys: list[str]) -> None:
    sealed = KeyRing([OLD]).seal("open-sesame-1")
    for call in (KeyRing(keys).open, KeyRing(keys).renew):
        with pytest.raises(KeyMissing, match="LICENCE of chat-v1-aaaa"):
            call(sealed, what="LICENCE of chat-v1-aaaa")


def test_seal__no_key__is_refused_with_the_remedy() -> None:
    with pytest.raises(Refused, match="HEADGATE_ENCRYPTION_KEYS"):
        KeyRing([]).seal("open-sesame-1")


def test_read__commas_and_lines__newest_first() -> None:
    assert KeyRing.read(f"{NEW},{OLD}").keys == KeyRing.read(f"{NEW}\n {OLD}\n").keys == (NEW, OLD)


@pytest.mark.parametrize(
    "wrong", ["too-short", "x" * 44, NEW[:-2], "schlüssel"], ids=["short", "no-key", "cut", "umlaut"]
)
def test_read__no_key__is_refused_without_repeating_it(wrong: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_keys(f"{NEW},{wrong}", setting="HEADGATE_ENCRYPTION_KEYS")
    assert "key 2" in str(caught.value)
    assert wrong not in str(caught.value)


def test_ring__shown__tells_no_key() -> None:
    ring = KeyRing([NEW, OLD])
    assert NEW not in repr(ring) + str(ring) + f"{ring!r}"
