"""What a kind of clusters is: how a row of the database becomes the ports of one cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import InvalidInput
from controlplane.sealing.keys import KeyRing
from registry.domain.manifest import Manifest
from rollouts.adapters.request_log.otlp.stores import AnswerStore
from rollouts.domain.clusters import ClusterSpec
from rollouts.ports import ClusterPorts


@dataclass(frozen=True, slots=True)
class Installation:
    """What this installation brings along for its clusters, from the environment.

    run_dir, envoy_dir, supervisor_socket, gateway_port, gateway_url, engine_ports
                            of the `local` cluster without a configuration
    engine_python, engine_user, secrets_dir
                            what runs engines and may read their secrets is the operator's word alone: no configuration
                            of a cluster changes it
    models_dir              where the files of versions lie once they are fetched and compared
    engine_memory_mb        that must be free before one more engine is launched
    engine_memory_limit_mb  that one process of an engine may take; 0: the launcher chooses
    cors_origins            whose pages may call the endpoints
    answers                 where answered requests of clusters' gateways are kept
    grant_files             a pass for the files of one manifest, valid for so many seconds: the web process hands them
                            out to whoever shows it
    wake                    has the loop look at what changed soon; returns at once. A cluster that is watched calls it
    """

    run_dir: Path
    envoy_dir: Path
    supervisor_socket: Path
    gateway_port: int
    gateway_url: str
    engine_ports: range
    engine_python: Path
    engine_user: str
    secrets_dir: Path
    models_dir: Path
    engine_memory_mb: int
    engine_memory_limit_mb: int
    cors_origins: tuple[str, ...]
    keys: Callable[[], KeyRing] = field(compare=False)
    clock: Clock = field(compare=False)
    answers: Callable[[], AnswerStore] = field(compare=False)
    grant_files: Callable[[Manifest, float], str] = field(compare=False)
    wake: Callable[[], None] = field(compare=False)


@dataclass(frozen=True, slots=True)
class ClusterKind:
    """A kind of clusters.

    name      as rows of the database say it
    title     for people
    problems  everything that is wrong with a cluster as it is written down, each field named (`configuration.run_dir`,
              `secret`); asks nobody
    build     makes the ports. Called for specs without problems only. Raises HeadgateError or OSError with what is
              missing; what it makes connects when it is used, not before
    prepare   writes what has to be there before the cluster is used, and says in words what the operator runs then.
              Raises as `build` does
    occupies  what of this machine no second cluster may use, by the field that says so
    """

    name: str
    title: str
    problems: Callable[[ClusterSpec], tuple[InvalidInput, ...]]
    build: Callable[[ClusterSpec, Installation], ClusterPorts]
    prepare: Callable[[ClusterSpec, Installation], str]
    occupies: Callable[[ClusterSpec, Installation], Mapping[str, frozenset[str]]]
