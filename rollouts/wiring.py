"""Builds the outside world from settings and the rows of clusters: the one place where adapters are chosen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import TypeVar
from urllib.parse import urlsplit

from django.conf import settings

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import HeadgateError, InvalidInput, Unavailable
from controlplane.passes.words import error_words
from controlplane.sealing.services import key_ring
from controlplane.timekeeping.database_clock import CLOCK
from registry.services.file_door import grant_files
from registry.wiring import allowed_files, model_store, models_dir
from rollouts.adapters.kinds import KINDS, ClusterKind, Installation
from rollouts.adapters.request_log.otlp.file_store import FileAnswers
from rollouts.adapters.request_log.otlp.stores import AnswerStore
from rollouts.domain.clusters import ClusterSpec
from rollouts.models import Cluster
from rollouts.ports import ClusterPorts
from rollouts.services.world import World, Worlds
from rollouts.wake import LOOP

T = TypeVar("T")
HERE = frozenset({"127.0.0.1", "localhost", "::1"})

log = logging.getLogger(__name__)

_made: dict[str, tuple[bytes, Installation, ClusterPorts]] = {}  # by cluster, with what it was made from
_making: dict[str, Lock] = {}  # by cluster: one whose folder hangs must not keep the others waiting


def worlds() -> Worlds:
    """The worlds of all clusters that the database knows. 1 query; what is behind a row is made once, and anew when the
    row says something else."""
    specs = {row.name: row.spec for row in Cluster.objects.order_by("name")}
    return Worlds(tuple(specs), partial(_world, specs), CLOCK)


def cluster_problems(spec: ClusterSpec) -> tuple[InvalidInput, ...]:
    """Everything that is wrong with a cluster as somebody wants to write it down, each field named: asked before it is
    stored. 1 query."""
    kind = KINDS.get(spec.kind)
    if kind is None:
        return (_unknown(spec.kind),)
    return kind.problems(spec) or _moved(spec, kind) or _occupied(spec, kind)


def prepare_cluster(name: str) -> str:
    """Writes what has to be there before a cluster is used, and says what the operator runs then. Raises Unavailable
    when it cannot be used as it is written down."""
    spec = next((row.spec for row in Cluster.objects.filter(name=name)), None)
    if spec is None:
        raise Unavailable(
            f"There is no cluster {name!r}.", fix="Write it down first: PUT /api/v1/clusters/NAME."
        )
    return _done(spec, lambda kind, installation: kind.prepare(spec, installation))


def answer_store() -> AnswerStore:
    """Where answered requests of clusters' gateways are kept, for the receiver and for request logs: Redis where the
    installation has one, else files of this machine."""
    environment = settings.HEADGATE
    if not environment.redis_url:
        return FileAnswers(environment.answered_dir, SystemClock(), most=environment.requests_kept)
    # Redis's client takes 25 MB of every process, and most installations have none.
    from rollouts.adapters.request_log.otlp.redis_store import RedisAnswers

    return RedisAnswers(environment.redis_url, most=environment.requests_kept)


def _world(specs: Mapping[str, ClusterSpec], name: str) -> World:
    ports = _ports(specs[name])
    environment = settings.HEADGATE
    return World(
        name=name,
        cluster=ports.cluster,
        router=ports.router,
        signals=ports.signals,
        request_log=ports.request_log,
        prober=ports.prober,
        store=model_store(),
        models_dir=models_dir(),
        clock=CLOCK,
        edges=ports.edges,
        endpoint_url=ports.endpoint_url,
        interval_seconds=environment.interval_seconds,
        feedback_seconds=environment.feedback_seconds,
        probe_pairs=environment.probe_pairs,
        allowed_files=allowed_files(),
        trials=ports.trials,
    )


def _ports(spec: ClusterSpec) -> ClusterPorts:
    """The ports of a cluster, made once for what its row says. Raises Unavailable with what is wrong with the row."""
    installation = _installation()
    try:
        content = spec.content
    except ValueError as error:
        fix = "Write the cluster down again: PUT /api/v1/clusters/NAME."
        raise _unusable(spec, "Its row holds characters that are none.", fix) from error
    with _making.setdefault(spec.name, Lock()):
        before = _made.get(spec.name)
        if before is not None and before[:2] == (content, installation):
            return before[2]
        ports = _done(spec, lambda kind, here: kind.build(spec, here))
        _made[spec.name] = (content, installation, ports)
        if before is not None:
            before[2].close()  # whoever still works with them may go on asking
        return ports


def _done(spec: ClusterSpec, do: Callable[[ClusterKind, Installation], T]) -> T:
    """What the kind of a cluster makes of it. Raises Unavailable when nothing can be made of this row."""
    kind = KINDS.get(spec.kind)
    try:
        problems = (_unknown(spec.kind),) if kind is None else kind.problems(spec)
        if kind is not None and not problems:
            return do(kind, _installation())
    except HeadgateError as error:
        raise _unusable(spec, error.message, error.fix) from error
    except OSError as error:
        raise _unusable(spec, f"{error}.", "Mend that on this machine.") from error
    except (
        Exception
    ) as error:  # the boundary of one cluster: a fault of its kind must not reach those of other kinds
        log.exception("cluster.unusable name=%s kind=%s", spec.name, spec.kind)
        why = f"Its kind {spec.kind} failed: {error_words(error)}"
        raise _unusable(spec, why, "That is a fault of Headgate; the log has it.") from error
    first = problems[0]
    raise _unusable(spec, f"{first.field}: {first.message}", first.fix)


def _unusable(spec: ClusterSpec, why: str, fix: str) -> Unavailable:
    return Unavailable(f"The cluster {spec.name} cannot be used. {why}", fix=fix, code="cluster-unusable")


def _unknown(kind: str) -> InvalidInput:
    known = ", ".join(sorted(KINDS))
    return InvalidInput(f"There is no kind of clusters {kind!r}.", field="kind", fix=f"Use one of: {known}.")


def _moved(spec: ClusterSpec, kind: ClusterKind) -> tuple[InvalidInput, ...]:
    """What would leave engines behind that run: another kind, or another place of a cluster that has endpoints."""
    row = Cluster.objects.filter(name=spec.name, endpoints__isnull=False).first()
    if row is None or row.kind not in KINDS or KINDS[row.kind].problems(row.spec):
        return ()
    fix = "Write down another cluster, and make the endpoints there."
    if row.kind != spec.kind:
        return (
            InvalidInput(f"Endpoints are on {spec.name}: its kind stays {row.kind}.", field="kind", fix=fix),
        )
    here, there = (kind.occupies(one, _installation()) for one in (row.spec, spec))
    return tuple(
        InvalidInput(
            f"Endpoints are on {spec.name}: {field} stays as it is.", field=f"configuration.{field}", fix=fix
        )
        for field in there
        if here.get(field) != there[field]
    )


def _occupied(spec: ClusterSpec, kind: ClusterKind) -> tuple[InvalidInput, ...]:
    """What it would share with another cluster of this installation, or with Headgate's own programs: two must not
    write over each other."""
    installation = _installation()
    wanted = kind.occupies(spec, installation)
    found: dict[str, InvalidInput] = {}
    for field, things in wanted.items():
        for port, who in _own_ports().items():
            if f"port {port}" in things:
                found[field] = InvalidInput(
                    f"{who} uses port {port} already.",
                    field=f"configuration.{field}",
                    fix="Choose another one.",
                )
    for row in Cluster.objects.exclude(name=spec.name):
        theirs = KINDS.get(row.kind)
        if theirs is None or theirs.problems(row.spec):
            continue
        taken = frozenset[str]().union(*theirs.occupies(row.spec, installation).values())
        for field, things in wanted.items():
            shared = sorted(things & taken)
            if shared:
                found[field] = InvalidInput(
                    f"The cluster {row.name} uses {shared[0]} already.",
                    field=f"configuration.{field}",
                    fix="Choose another one.",
                )
    return tuple(found.values())


def _own_ports() -> dict[int, str]:
    """The ports of this machine that this installation's own programs listen on, with whose they are."""
    mlflow = urlsplit(settings.HEADGATE.mlflow_url)
    found = {settings.HEADGATE.web_port: "The web process of Headgate"}
    if mlflow.hostname in HERE and mlflow.port is not None:
        found[mlflow.port] = "MLflow"
    return found


def _installation() -> Installation:
    environment = settings.HEADGATE
    return Installation(
        run_dir=environment.run_dir,
        envoy_dir=environment.envoy_dir,
        supervisor_socket=environment.supervisor_socket,
        gateway_port=environment.gateway_port,
        gateway_url=environment.public_gateway_url,
        engine_ports=environment.engine_port_range,
        engine_python=environment.engine_python,
        engine_user=environment.engine_user,
        secrets_dir=environment.secrets_folder,
        models_dir=models_dir(),
        engine_memory_mb=environment.engine_memory_mb,
        engine_memory_limit_mb=environment.engine_memory_limit_mb,
        cors_origins=environment.allowed_origins,
        keys=key_ring,
        clock=SystemClock(),
        answers=answer_store,
        grant_files=lambda manifest, seconds: grant_files(
            manifest=manifest, seconds=seconds, now=CLOCK.now()
        ),
        wake=LOOP.wake,
    )
