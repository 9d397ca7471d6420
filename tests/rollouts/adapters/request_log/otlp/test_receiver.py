"""The receiver over real gRPC, with senders that mean well and others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Unavailable
from controlplane.sealing.senders import Senders
from rollouts.adapters.request_log.otlp.file_store import FileAnswers
from rollouts.adapters.request_log.otlp.pending import Pending
from rollouts.adapters.request_log.otlp.receiver import (
    MESSAGE_BYTES,
    MOST_RECORDS,
    RequestReceiver,
    TlsFiles,
)
from tests.kubernetes.certificates import Authority
from tests.rollouts.adapters.request_log.otlp.sending import Sender, answered, attributes, message, record
from tests.standins.running import free_port, wait_until

PARIS, OSLO = "token-of-paris-" + "p" * 32, "token-of-oslo-" + "o" * 32
SENDERS = Senders.read(f"paris={PARIS},oslo={OSLO}")


class Running:
    """A receiver with files behind it."""

    def __init__(self, folder: Path, *, tls: TlsFiles | None = None) -> None:
        self.store = FileAnswers(folder / "answered", ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
        self.receiver = RequestReceiver(
            address="127.0.0.1:0", senders=SENDERS, pending=Pending(self.store), tls=tls
        )
        self.port = self.receiver.start()

    def has(self, cluster: str, request_id: str) -> bool:
        return request_id in self.store.find(cluster, [request_id])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    found = Running(tmp_path)
    yield found
    found.receiver.stop()


def refusal(call: object) -> grpc.StatusCode:
    assert isinstance(call, grpc.Call)
    found: grpc.StatusCode = call.code()
    return found


def test_export__of_two_clusters__each_is_kept_for_its_own(running: Running) -> None:
    for token, status in ((PARIS, "200"), (OSLO, "500")):
        with Sender(running.port, token) as sender:
            answer = sender.send(message([record(attributes("request-one", status=status))]))
        assert not answer.HasField("partial_success")
    wait_until(
        "both are kept", lambda: running.has("paris", "request-one") and running.has("oslo", "request-one")
    )
    assert running.store.find("paris", ["request-one"]) == {"request-one": answered("request-one")}
    assert running.store.find("oslo", ["request-one"])["request-one"].status == 500


def test_export__one_odd_record__is_told_and_the_others_are_kept(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    records = [record(attributes(f"request-{n}", at="never" if n == 1 else "1.5")) for n in range(3)]
    with Sender(running.port, PARIS) as sender:
        answer = sender.send(message(records))
    assert answer.partial_success.rejected_log_records == 1
    assert "headgate.at" in answer.partial_success.error_message
    wait_until(
        "the others are kept", lambda: running.has("paris", "request-0") and running.has("paris", "request-2")
    )
    assert not running.has("paris", "request-1")
    with caplog.at_level(logging.INFO):
        running.receiver.stop()
    assert "receiver.took cluster=paris records=3 inferences=2 odd=1" in caplog.text


def test_export__attributes_of_a_cluster__are_not_believed(running: Running) -> None:
    """Only the token says whose a request is."""
    with Sender(running.port, OSLO) as sender:
        sender.metadata.append(("x-headgate-cluster", "paris"))
        sender.send(message([record({**attributes("request-one"), "headgate.cluster": "paris"})]))
    wait_until("it is kept", lambda: running.has("oslo", "request-one"))
    assert not running.has("paris", "request-one")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        f"Bearer {PARIS}x",
        f"Bearer {PARIS[:-1]}",
        f"Basic {PARIS}",
        PARIS,
        "Bearer",
        f"Bearer {PARIS},{OSLO}",
    ],
)
def test_export__without_a_token_of_a_cluster__is_refused(running: Running, authorization: str) -> None:
    with Sender(running.port) as sender:
        if authorization:
            sender.metadata.append(("authorization", authorization))
        with pytest.raises(grpc.RpcError) as caught:
            sender.send(message([record(attributes("request-one"))]))
    assert refusal(caught.value) == grpc.StatusCode.UNAUTHENTICATED
    assert PARIS[:-1] not in str(caught.value)
    assert not running.has("paris", "request-one")


def test_export__strangers__are_told_in_the_log_once(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with Sender(running.port, "t" * 40) as sender:
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                sender.send(message([]))
    with caplog.at_level(logging.INFO):
        running.receiver.stop()
    assert caplog.text.count("receiver.refused messages=3") == 1
    assert "t" * 40 not in caplog.text


def test_export__message_of_a_stranger__is_not_read(running: Running) -> None:
    """A message that is too large is refused while it is read; a stranger's is refused for its sender."""
    with Sender(running.port, "t" * 40) as sender, pytest.raises(grpc.RpcError) as caught:
        sender.send_bytes(b"\0" * (MESSAGE_BYTES + 1))
    assert refusal(caught.value) == grpc.StatusCode.UNAUTHENTICATED


def test_export__too_large__is_refused_and_the_next_one_is_taken(running: Running) -> None:
    with Sender(running.port, PARIS) as sender:
        with pytest.raises(grpc.RpcError) as caught:
            sender.send_bytes(b"\0" * (MESSAGE_BYTES + 1))
        assert refusal(caught.value) == grpc.StatusCode.RESOURCE_EXHAUSTED
        sender.send(message([record(attributes("request-one"))]))
    wait_until("it is kept", lambda: running.has("paris", "request-one"))


def test_export__packed_message__is_refused(running: Running) -> None:
    with Sender(running.port, PARIS) as sender, pytest.raises(grpc.RpcError) as caught:
        sender.send(message([record(attributes("request-one"))] * 100), compression=grpc.Compression.Gzip)
    assert refusal(caught.value) in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)


def test_export__no_message_of_this_kind__is_refused(running: Running) -> None:
    with Sender(running.port, PARIS) as sender, pytest.raises(grpc.RpcError) as caught:
        sender.send_bytes(b"\xff\xff\xff")
    assert refusal(caught.value) == grpc.StatusCode.INVALID_ARGUMENT


def test_export__more_records_than_a_gateway_sends__takes_the_first(running: Running) -> None:
    records = [record({}) for _ in range(MOST_RECORDS)]
    request = message([record(attributes("request-one")), *records, record(attributes("request-two"))])
    with Sender(running.port, PARIS) as sender:
        answer = sender.send(request)
    assert answer.partial_success.rejected_log_records == 2
    wait_until("the first is kept", lambda: running.has("paris", "request-one"))
    assert not running.has("paris", "request-two")


def test_call__of_another_name__is_unknown(running: Running) -> None:
    with Sender(running.port, PARIS) as sender, pytest.raises(grpc.RpcError) as caught:
        sender.send_bytes(b"", method="/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    assert refusal(caught.value) == grpc.StatusCode.UNIMPLEMENTED


def test_stop__what_was_taken__is_kept(tmp_path: Path) -> None:
    running = Running(tmp_path)
    with Sender(running.port, PARIS) as sender:
        sender.send(message([record(attributes("request-one"))]))
        assert running.receiver.stop() == 0
        assert running.has("paris", "request-one")
        with pytest.raises(grpc.RpcError):
            sender.send(message([]))


def test_start__port_is_taken__says_so(running: Running) -> None:
    second = RequestReceiver(
        address=f"127.0.0.1:{running.port}", senders=SENDERS, pending=Pending(running.store)
    )
    with pytest.raises(Unavailable, match=str(running.port)):
        second.start()


def test_tls__certificate__is_shown_and_clear_text_is_not_understood(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("receiver", addresses=("127.0.0.1",))
    running = Running(tmp_path, tls=TlsFiles(identity.certificate, identity.key))
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
    with Sender(running.port, PARIS, credentials=credentials) as sender:
        sender.send(message([record(attributes("request-one"))]))
    with Sender(running.port, PARIS) as sender, pytest.raises(grpc.RpcError):
        sender.send(message([record(attributes("request-two"))]))
    running.receiver.stop()
    assert running.has("paris", "request-one")
    assert not running.has("paris", "request-two")


def test_tls__no_such_file__says_so(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "certificate", tmp_path / "key")
    store = FileAnswers(tmp_path, ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    receiver = RequestReceiver(
        address=f"127.0.0.1:{free_port()}", senders=SENDERS, pending=Pending(store), tls=files
    )
    with pytest.raises(Unavailable, match="No such file"):
        receiver.start()
