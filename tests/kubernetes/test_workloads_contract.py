"""The contract suite of clusters, on the real control plane.

Left out is what the lab's nodes cannot show (they have no volumes, so no files that could differ), and what only an
engine with an address of its own has: a cluster of this kind gives out its Services.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollouts.ports import Cluster, WorkloadSpec, WorkloadStatus
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.workloads import PATIENCE_SECONDS, WorkloadBench
from tests.rollouts.adapters.clusters import test_contract as contract
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]

FAILS = "--fail 'ValueError: No available memory for the cache blocks.'"


class KubernetesBench:
    """The bench of the contract, in these hands."""

    def __init__(self, workloads: WorkloadBench) -> None:
        self.workloads = workloads
        self.cluster: Cluster = workloads.cluster

    def spec(self, endpoint: str) -> WorkloadSpec:
        return replace(self.workloads.spec(), variant=f"{endpoint}-v1-aaaa", endpoint=endpoint)

    def folder(self, spec: WorkloadSpec) -> Path:
        raise AssertionError("the lab's nodes have no volumes")

    def wait(self, what: str, check: Callable[[], bool]) -> None:
        wait_until(what, check, PATIENCE_SECONDS)

    def kill(self, variant: str) -> None:
        self.workloads.kill(variant)

    def broken(self, spec: WorkloadSpec) -> WorkloadSpec:
        return replace(spec, environment={"STANDIN": FAILS})

    def mended(self, spec: WorkloadSpec) -> WorkloadSpec:
        return spec

    def request_inside(self, status: WorkloadStatus) -> Callable[[], None]:
        raise AssertionError("this cluster does not say how many requests are inside")

    def variable_of_engine(self, variant: str, name: str) -> str:
        raise AssertionError("an engine's variables cannot be read from outside of its pod")

    def prints(self, variant: str, line: str) -> None:
        raise AssertionError("nobody else writes into a container's log")

    def stored(self, variant: str) -> str:
        raise AssertionError("the suite asks for it together with what cannot be read")


@pytest.fixture(scope="module")
def workloads(
    kubernetes_lab: KubernetesLab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkloadBench]:
    made = WorkloadBench(kubernetes_lab, tmp_path_factory.mktemp("headgate"), "contract")
    yield made
    made.cluster.close()


@pytest.fixture
def bench(workloads: WorkloadBench) -> Any:
    return KubernetesBench(workloads)


endpoint = contract.endpoint

test_already_running = contract.test_ensure__already_running__changes_nothing
test_many_threads = contract.test_ensure__at_once_from_many_threads__starts_one
test_files_at = contract.test_status__cluster_that_fetches__says_until_when_files_came_and_no_other_does
test_old_token = contract.test_ensure__old_token__is_stale_and_starts_nothing
test_drain_old_token = contract.test_drain__old_token__is_stale_and_leaves_it_running
test_claim = contract.test_claim__newer_token__is_remembered_and_an_older_one_is_answered_by_it
test_limits = contract.test_ensure__more_than_its_limits_allow__names_the_field_and_starts_nothing
test_launched = contract.test_launched__tells_what_was_asked_for
test_token_of_another = contract.test_token__of_another_endpoint__does_not_count
test_belongings = contract.test_belongings__launch__is_told_with_its_endpoint_and_age
test_take_away = contract.test_take_away__launch_as_it_was_seen__ends_it
test_take_away_asked_for = contract.test_take_away__asked_for_since_it_was_seen__leaves_it_running
test_mark_unknown = contract.test_mark_unknown__taken_off__is_as_it_was
test_drain_absent = contract.test_drain__absent_variant__does_nothing
test_drain = contract.test_drain__nothing_inside__stops_and_removes_it
test_fails = contract.test_engine_that_fails__says_why_and_starts_when_mended
test_drain_failed = contract.test_drain__failed_variant__removes_it
test_scale_in = contract.test_scale_in__absent_variant_and_one_that_nothing_scales__changes_nothing
test_scale_in_old_token = contract.test_scale_in__old_token__is_stale
test_log_tail = contract.test_log_tail__of_a_running_engine__has_at_most_the_lines_asked_for
test_log_tail_unknown = contract.test_log_tail__unknown_variant__is_empty
test_api = contract.test_api__known_engine__has_its_calls
test_options = contract.test_options__known_engine__has_typed_arguments_and_variables
test_options_unknown = contract.test_options__unknown_engine__is_refused_by_name
test_engines = contract.test_engines__all_are_named_in_order_and_have_options
test_not_allowed = contract.test_ensure__what_the_engine_does_not_allow__names_the_field_and_starts_nothing
test_api_unknown = contract.test_api__unknown_engine__is_refused_by_name
test_no_secret = contract.test_ensure__key_or_file_is_missing__is_refused_saying_which_and_stops_no_other
