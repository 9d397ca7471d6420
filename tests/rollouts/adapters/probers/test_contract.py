"""What every Prober promises, in memory and through the real Envoy."""

from __future__ import annotations

import pytest

from controlplane.kernel.errors import Rejected, Unavailable
from rollouts.ports import Answer
from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, PROMPT, Plane, arms, route


def ask(plane: Plane, endpoint: str, variant: str, *, max_tokens: int = 50, timeout: float = 30) -> Answer:
    return plane.prober.ask(
        endpoint=endpoint, variant=variant, messages=PROMPT, max_tokens=max_tokens, timeout=timeout
    )


@pytest.mark.parametrize("variant", [BASELINE, CANDIDATE])
def test_ask__each_variant__answers_itself_whatever_its_share(
    plane: Plane, endpoint: str, variant: str
) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    answer = ask(plane, endpoint, variant)
    assert (answer.text, answer.variant) == (f"answered by {variant}", variant)
    assert answer.tokens == 4  # three words and the end
    assert answer.first_token_seconds is not None
    assert 0 < answer.first_token_seconds <= answer.seconds
    assert arms(plane, endpoint)[BASELINE].arrived == 0


def test_ask__max_tokens__cuts_the_answer(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    answer = ask(plane, endpoint, BASELINE, max_tokens=2)
    assert (answer.text, answer.tokens) == ("answered by", 2)


def test_ask__dead_engine__is_unavailable_and_never_answered_by_another(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.kill(CANDIDATE)
    with pytest.raises(Unavailable, match=CANDIDATE) as error:
        ask(plane, endpoint, CANDIDATE)
    assert not isinstance(error.value, Rejected)


def test_ask__server_error__is_unavailable(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.change(CANDIDATE, errors=1.0)
    with pytest.raises(Unavailable, match="HTTP 500") as error:
        ask(plane, endpoint, CANDIDATE)
    assert not isinstance(error.value, Rejected)


def test_ask__stream_that_breaks__is_unavailable(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.change(CANDIDATE, broken=1.0)
    with pytest.raises(Unavailable, match="broke off"):
        ask(plane, endpoint, CANDIDATE)


def test_ask__slower_than_the_timeout__is_unavailable(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.change(CANDIDATE, seconds=20)
    with pytest.raises(Unavailable):
        ask(plane, endpoint, CANDIDATE, timeout=0.3)


def test_ask__unknown_variant__is_rejected(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    with pytest.raises(Rejected, match="404"):
        ask(plane, endpoint, "chat-v9-cccc")


@pytest.mark.parametrize(("status", "error"), [(400, Rejected), (429, Unavailable)])
def test_ask__refused_by_the_engine__says_whether_it_will_be_again(
    plane: Plane, endpoint: str, status: int, error: type[Exception]
) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.change(CANDIDATE, refused=status)
    with pytest.raises(error, match=f"HTTP {status}"):
        ask(plane, endpoint, CANDIDATE)
