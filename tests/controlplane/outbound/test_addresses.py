from __future__ import annotations

from collections.abc import Callable

import pytest

from controlplane.kernel.errors import InvalidInput
from controlplane.outbound.addresses import checked_listening, checked_redis

REDIS = [
    "",
    "redis://h",
    "redis://:p%40@h:6379/2",
    "rediss://user:p@h",
    "unix:///run/redis.sock",
    "redis://[::1]:1",
]
NO_REDIS = [
    "h:6379", "http://h", "redis://", "redis://:sentinel@h:99999", "redis://:sentinel@h:0", "redis://h/x", "unix://",
    "redis://:senti nel@h", "redis://h?ssl_cert_reqs=none", "redis://:sentinel@[h",
]  # fmt: skip
LISTENING = ["127.0.0.1:4317", "0.0.0.0:0", "[::]:4317", "receiver:1"]
NO_LISTENING = [
    "",
    "4317",
    ":4317",
    "h:",
    "h:port",
    "h:70000",
    "h:1/x",
    "a@h:1",
    "h :1",
    "http://h:1",
    "[::1",
]


@pytest.mark.parametrize(
    ("check", "address"),
    [(checked_redis, one) for one in REDIS] + [(checked_listening, one) for one in LISTENING],
)
def test_address__can_work__is_given_back(check: Callable[..., str], address: str) -> None:
    assert check(f" {address}\n", setting="HEADGATE_X") == address


@pytest.mark.parametrize(
    ("check", "address"),
    [(checked_redis, one) for one in NO_REDIS] + [(checked_listening, one) for one in NO_LISTENING],
)
def test_address__cannot_work__names_the_setting_and_not_the_address(
    check: Callable[..., str], address: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(address, setting="HEADGATE_X")
    assert caught.value.field == "HEADGATE_X"
    assert "sentinel" not in str(caught.value)
