"""`manage.py receive_requests`: takes what gateways of clusters say of answered requests, until it is told to stop."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from threading import Event
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from controlplane.kernel.errors import HeadgateError, Refused
from controlplane.sealing.senders import HOW_TO_WRITE, Senders
from rollouts import wiring
from rollouts.adapters.request_log.otlp.pending import Pending
from rollouts.adapters.request_log.otlp.receiver import RequestReceiver, TlsFiles

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Receives what the gateways of clusters say of answered requests (OTLP over gRPC), so that ratings find who"
        " answered. SIGTERM and SIGINT end it when what it took is kept; exit status 1: some could not be kept."
    )
    # It writes to no table, and must start while the database is away: what gateways send comes once.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        told = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told.set())
        try:
            receiver = request_receiver()
            port = receiver.start()
        except HeadgateError as error:
            raise CommandError(str(error)) from error
        log.info("receiver.listening address=%s port=%s", settings.HEADGATE.receiver_address, port)
        told.wait()
        left = receiver.stop()
        if left:
            raise CommandError(f"{left} answered requests could not be kept: the store was away.")
        log.info("receiver.stopped")


def request_receiver() -> RequestReceiver:
    """The receiver as the settings have it. Raises Refused when they name no sender, or one of the two files for
    TLS."""
    environment = settings.HEADGATE
    senders = Senders.read(environment.request_senders)
    if not senders.clusters:
        raise Refused(
            "HEADGATE_REQUEST_SENDERS is empty: nobody may send.", code="no-sender", fix=HOW_TO_WRITE
        )
    certificate, key = environment.receiver_certificate, environment.receiver_key
    if bool(certificate) != bool(key):
        raise Refused(
            "Of HEADGATE_RECEIVER_CERTIFICATE and HEADGATE_RECEIVER_KEY one is set.",
            code="half-of-tls",
            fix="Set both, or none for clear text.",
        )
    return RequestReceiver(
        address=environment.receiver_address,
        senders=senders,
        pending=Pending(wiring.answer_store()),
        tls=TlsFiles(Path(certificate), Path(key)) if certificate else None,
    )
