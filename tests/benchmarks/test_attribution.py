from __future__ import annotations

import pytest

from benchmarks.attribution import Run, measure, page, quantile, token_us

NAN = float("nan")


@pytest.mark.e2e
@pytest.mark.needs("envoy", "redis")
@pytest.mark.parametrize("kind", ["none", "files", "redis"])
def test_measure__some_requests__every_one_is_found(kind: str) -> None:
    run = measure(kind, rate=40, seconds=2)
    assert run.sent == 80
    assert run.lost == 0, run.told
    assert len(run.delays) == (0 if kind == "none" else 4)
    assert all(0 <= delay < 10 for delay in run.delays)
    assert run.gateway_us > 0
    assert (run.receiver_us > 0) is (kind != "none")


def test_page__runs__are_rows_and_the_token_is_compared() -> None:
    runs = [
        Run("none", 1000, 999.6, NAN, 40, NAN, (), 0, NAN),
        Run("redis", 1000, 999.6, 50.4, 60, 5, (0.1, 0.3), 1, 150),
    ]
    text = page(runs, token=5, load=1.5)
    assert "| none | 1,000 | 1,000 | – | 40 | – | – / – | 0 | – |" in text
    assert "| redis | 1,000 | 1,000 | 50 | 60 | 5 | 200 / 298 | 1 | 150 |" in text
    assert "10 times that" in text
    assert "load average 1.5" in text


def test_quantile__values__is_between_them() -> None:
    assert quantile([1.0], 0.99) == 1.0
    assert quantile([float(n) for n in range(101)], 0.99) == pytest.approx(99)
    assert quantile([float(n) for n in range(101)], 0.5) == pytest.approx(50)


def test_token_us__is_measured() -> None:
    assert 0 < token_us(100) < 10_000
