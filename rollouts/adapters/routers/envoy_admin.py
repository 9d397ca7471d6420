"""Envoy's admin interface, over its unix socket. Its answers are read with bounds (`controlplane.kernel.foreign`)."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode

from controlplane.kernel.errors import InvalidInput, Unavailable
from controlplane.kernel.foreign import ODD_ANSWER, Fields, parsed, words_of
from controlplane.outbound.asking import Received
from controlplane.outbound.unix_sockets import ask_unix
from rollouts.adapters.routers.envoy_routes import (
    ANSWER,
    SplitInForce,
    all_splits_in_force,
    split_cluster_name,
    split_in_force,
)

# sun_path of a unix socket address holds 108 bytes with its final zero (man 7 unix).
_SOCKET_PATH_LIMIT = 107
MOST_BYTES = 64 << 20  # of one answer: counters of a hundred variants are a few megabytes
CALL_SECONDS = 15.0  # for one whole answer


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How Envoy took one kind of discovery file.

    version   of the configuration in force ("" before the first)
    refusals  how many files it refused or could not read since it started
    """

    version: str
    refusals: int


@contextmanager
def unknown_if_odd() -> Iterator[None]:
    """Turns an answer that cannot be understood into Unavailable: what Envoy does is then unknown, and an unknown read
    changes nothing."""
    try:
        yield
    except InvalidInput as error:
        if error.code != ODD_ANSWER:
            raise
        raise Unavailable(error.message, fix="Look at the router's own admin interface.") from error


class EnvoyAdmin:
    """Asks Envoy, on a new connection each time: a kept one would not outlive Envoy's restart.

    Every call raises Unavailable when Envoy does not answer, or answers with what cannot be understood. The
    constructor raises InvalidInput when the
    socket's path is longer than the system allows.
    """

    def __init__(self, path: Path, *, seconds: float = CALL_SECONDS) -> None:
        if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
            raise InvalidInput(
                f"The path of Envoy's socket is too long for this system: {path}",
                field="run_dir",
                fix=f"Choose a run folder so that it has at most {_SOCKET_PATH_LIMIT} bytes.",
            )
        self._path = path
        self._seconds = seconds

    def text(self, path: str, **query: str) -> str:
        """The answer to GET path?query, without what no database takes."""
        return self._ask("GET", path, query).text

    def json(self, path: str, **query: str) -> Fields:
        """The JSON object that answers GET path?query. What is read of it raises InvalidInput where it is odd: do so
        under `unknown_if_odd`."""
        said = f"What Envoy says on {path}"
        with unknown_if_odd():
            return Fields(parsed(self._ask("GET", path, query).body, said), said)

    def post(self, path: str) -> None:
        self._ask("POST", path, {})

    def _ask(self, method: str, path: str, query: Mapping[str, str]) -> Received:
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            answer = ask_unix(self._path, method, target, most_bytes=MOST_BYTES, seconds=self._seconds)
        except OSError as error:
            raise Unavailable(
                f"Envoy does not answer on {self._path} ({path}): {words_of(str(error)) or type(error).__name__}.",
                fix="See whether the router process runs.",
            ) from error
        if not answer.ok:
            raise Unavailable(f"Envoy answered {path} with HTTP {answer.status}: {answer.words(200)}")
        if not answer.whole:
            raise Unavailable(f"Envoy answered {path} with more than {MOST_BYTES >> 20} MB.")
        return answer

    def started_at(self) -> float:
        """When this Envoy process started, in seconds since the epoch; the same value for all its life.

        It is the time at which the listener came into force. Envoy tells its uptime only in whole seconds,
        which would make the same process look like two.
        """
        mask = "active_state.last_updated"
        dump = self.json("/config_dump", resource="dynamic_listeners", mask=mask)
        with unknown_if_odd():
            for listener in dump.parts("configs"):
                if stamp := listener.part("active_state").exact("last_updated", "", longest=64):
                    return _seconds(stamp, listener)
        raise Unavailable("Envoy has no listener yet.", fix="It is starting; try again.")

    def acceptance(self, kind: str) -> Acceptance:
        """`kind` is "cluster_manager.cds" or "http.gw.rds.main"."""
        names = f"^{re.escape(kind)}\\.(version_text|update_rejected|update_failure)$"
        stats = self._stats(names)
        with unknown_if_odd():
            refusals = sum(
                stats[name].whole("value", least=0)
                for name in ("update_rejected", "update_failure")
                if name in stats
            )
            text = stats["version_text"].text("value", longest=200) if "version_text" in stats else ""
        return Acceptance(text, refusals)

    def warming_clusters(self) -> int:
        """Clusters that wait for their first health check; a route must not name them yet."""
        stats = self._stats("^cluster_manager\\.warming_clusters$")
        with unknown_if_odd():
            return sum(stat.whole("value", least=0) for stat in stats.values())

    def _stats(self, names: str) -> dict[str, Fields]:
        """The statistics whose names match, by the last part of their names. Histograms are left out: no name."""
        answer = self.json("/stats", filter=names, format="json")
        with unknown_if_odd():
            named = [stat for stat in answer.parts("stats") if "name" in stat]
            return {stat.exact("name").rpartition(".")[2]: stat for stat in named}

    def split(self, endpoint: str) -> SplitInForce | None:
        """The endpoint's split in the route table in force; None: it is not in it."""
        dump = self.json("/config_dump", resource="dynamic_route_configs")
        with unknown_if_odd():
            for config in dump.parts("configs"):
                return split_in_force(config.part("route_config"), endpoint)
        return None

    def all_splits(self) -> dict[str, SplitInForce]:
        """The split of every endpoint in the route table in force that is not odd."""
        dump = self.json("/config_dump", resource="dynamic_route_configs")
        with unknown_if_odd():
            for config in dump.parts("configs"):
                return all_splits_in_force(config.part("route_config"))
        return {}

    def healthy_variants(self, endpoint: str) -> frozenset[str]:
        """Variants whose backends Envoy would send requests to."""
        answer = self.json("/clusters", format="json")
        with unknown_if_odd():
            of_it = [
                (cluster, variant)
                for cluster, of_endpoint, variant in _answering(answer)
                if of_endpoint == endpoint  # an odd cluster of another endpoint is that one's trouble
            ]
            return frozenset(variant for cluster, variant in of_it if _is_healthy(cluster))

    def all_healthy_variants(self) -> dict[str, frozenset[str]]:
        """The same by endpoint; one with an odd cluster has none."""
        answer = self.json("/clusters", format="json")
        found: dict[str, set[str]] = defaultdict(set)
        odd: set[str] = set()
        with unknown_if_odd():
            for cluster, endpoint, variant in _answering(answer):
                try:
                    if _is_healthy(cluster):
                        found[endpoint].add(variant)
                except InvalidInput:
                    odd.add(endpoint)
        return {endpoint: frozenset(names) for endpoint, names in found.items() if endpoint not in odd}


def _answering(clusters: Fields) -> Iterator[tuple[Fields, str, str]]:
    """(cluster, endpoint, variant) of the clusters of variants' own backends."""
    for cluster in clusters.parts("cluster_statuses"):
        kind, endpoint, variant = split_cluster_name(cluster.text("name"))
        if kind == ANSWER:
            yield cluster, endpoint, variant


def _is_healthy(cluster: Fields) -> bool:
    """Whether one of its hosts would be sent requests. Raises InvalidInput."""
    hosts = cluster.parts("host_statuses")
    return any(host.part("health_status").is_only("eds_health_status", "HEALTHY") for host in hosts)


def _seconds(stamp: str, listener: Fields) -> float:
    """Envoy's `2026-11-21T09:22:15.552Z` in seconds since the epoch."""
    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError) as error:
        raise listener.odd(f"its last_updated is {stamp!r}, which is no time") from error
