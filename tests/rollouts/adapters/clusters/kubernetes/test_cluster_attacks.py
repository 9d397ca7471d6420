"""A cluster of variants among odd objects, other hands and other workers, on an API server in memory."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Refused, StaleWriter, Unavailable
from rollouts.adapters.clusters.kubernetes.client import ObjectKind
from rollouts.adapters.clusters.kubernetes.cluster import KubernetesCluster
from rollouts.adapters.clusters.kubernetes.errors import Stale
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.secrets import SecretFile
from tests.rollouts.adapters.clusters.kubernetes.memory import MemoryObjects, cluster_of
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of
from tests.rollouts.adapters.clusters.kubernetes.watched import (
    DEPLOYMENT,
    NAME,
    SPEC,
    STARTED,
    a_cluster_that_watches,
    a_pod,
)

ANCHOR = ("ConfigMap", NAME)
SECRET = "sentinel-of-the-hub"


@pytest.fixture
def server() -> MemoryObjects:
    return MemoryObjects()


# --- secrets --------------------------------------------------------------------------------------------------------


def with_a_secret(tmp_path: Path) -> Any:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    path = folder / "hub"
    path.touch(mode=0o600)
    path.write_text(SECRET)
    return cluster_of, folder, spec_of(environment={"TOKEN": SecretFile("hub")})


def test_statuses__last_words_with_a_secret__are_told_without_it(
    server: MemoryObjects, tmp_path: Path
) -> None:
    make, folder, spec = with_a_secret(tmp_path)
    cluster = make(server, secrets=folder)
    cluster.ensure(spec, token=1)
    padding = "x" * 380  # a line is cut at 400 characters: half of a secret would not be found any more
    a_pod(server, f"Error: {padding} {SECRET} was refused\x00", restarts=3)
    status = cluster.statuses()[NAME]
    assert status.reason is FailureReason.CRASH_LOOP
    assert SECRET[:8] not in status.message
    assert "\x00" not in status.message


def test_log_tail__record_that_cannot_be_read__is_not_shown(server: MemoryObjects, tmp_path: Path) -> None:
    make, folder, spec = with_a_secret(tmp_path)
    cluster = make(server, secrets=folder)
    cluster.ensure(spec, token=1)
    a_pod(server)
    server.logs[f"{NAME}-0"] = f"with {SECRET}\n"
    assert cluster.log_tail(NAME) == ("with [hidden]",)
    server.objects[ANCHOR]["data"]["launch.json"] = "{}"
    assert cluster.log_tail(NAME) == ()


def test_ensure__failed_with_a_wrong_secret_that_was_replaced__is_launched_with_the_right_one(
    server: MemoryObjects, tmp_path: Path
) -> None:
    make, folder, spec = with_a_secret(tmp_path)
    cluster = make(server, secrets=folder)
    cluster.ensure(spec, token=1)
    a_pod(server, "Error: the hub refuses the token", restarts=3)
    (folder / "hub").write_text("the right one")
    cluster.ensure(spec, token=1)
    assert base64.b64decode(server.objects["Secret", NAME]["data"]["TOKEN"]) == b"the right one"


def test_log_tail__what_no_database_takes__is_replaced(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    a_pod(server)
    server.logs[f"{NAME}-0"] = "loading\x00 weights\n"
    assert cluster.log_tail(NAME) == ("loading\ufffd weights",)


def test_anchor__of_a_variant_with_a_secret__keeps_its_workload_without_it(
    server: MemoryObjects, tmp_path: Path
) -> None:
    make, folder, spec = with_a_secret(tmp_path)
    make(server, secrets=folder).ensure(spec, token=1)
    kept = server.objects[ANCHOR]["data"]
    assert json.loads(kept["workload.json"])["spec"]["template"]
    assert SECRET not in repr(kept)
    assert base64.b64encode(SECRET.encode()).decode() not in repr(kept)


# --- other hands ----------------------------------------------------------------------------------------------------


def scale_by_hand(server: MemoryObjects, count: int) -> None:
    """As `kubectl scale` does."""
    body = server.objects[DEPLOYMENT]
    body["spec"]["replicas"] = count
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
    body["metadata"]["managedFields"] = [{"manager": "kubectl", "subresource": "scale", "fieldsV1": fields}]
    body["status"] = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), count) | {
        "conditions": [{"type": "Progressing", "reason": "NewReplicaSetAvailable"}]
    }


def altered(server: MemoryObjects, cluster: KubernetesCluster | None = None) -> str:
    return (cluster or cluster_of(server)).statuses()[NAME].altered


def test_statuses__pods_of_one_state_as_it_was_written__are_what_was_asked_for(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    a_pod(server)
    a_pod(server, name=f"{NAME}-1")
    assert altered(server) == ""


@pytest.mark.parametrize("ending", [{}, {"deletionTimestamp": STARTED}], ids=["running", "being stopped"])
def test_statuses__change_undone_with_a_pod_of_before__is_not_what_was_asked_for_until_that_one_is_gone(
    server: MemoryObjects, ending: dict[str, Any]
) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    a_pod(server)
    a_pod(server, name=f"{NAME}-1", state_of="77f0", **ending)
    assert altered(server) == "its pods, of which some are from before the last change"
    del server.objects["Pod", f"{NAME}-1"]
    assert altered(server) == ""


def test_statuses__pod_of_an_earlier_launch__is_no_change(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    a_pod(server)
    a_pod(server, name=f"{NAME}-1", state_of="77f0", attempt="7")
    assert altered(server) == ""


def test_statuses__pod_that_ended_long_ago__is_no_change(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    a_pod(server)
    a_pod(server, name=f"{NAME}-1", state_of="77f0")
    server.objects["Pod", f"{NAME}-1"]["status"]["phase"] = "Failed"
    assert altered(server) == ""


def test_statuses__image_changed_by_hand__say_from_what_to_what(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    (engine,) = server.objects[DEPLOYMENT]["spec"]["template"]["spec"]["containers"]
    before, engine["image"] = engine["image"], "other:2"
    words = (
        f"the image of engine is other:2, launched was {before}, by somebody whom the cluster does not name"
    )
    assert altered(server) == words


# --- what scales it by itself ---------------------------------------------------------------------------------------


SCALED = {"most": 4, "prometheus": "http://prometheus:9090"}
scalers = pytest.mark.parametrize(
    ("kind", "made_kind", "place"),
    [
        ("hpa", "HorizontalPodAutoscaler", ("behavior",)),
        ("keda", "ScaledObject", ("advanced", "horizontalPodAutoscalerConfig", "behavior")),
    ],
)


def scaled(server: MemoryObjects, kind: str) -> KubernetesCluster:
    """The variant runs, and something of this kind scales it."""
    cluster = cluster_of(server, profile=profile_of(autoscaler={"kind": kind, **SCALED}))
    cluster.ensure(SPEC, token=1)
    return cluster


def hold(cluster: KubernetesCluster, *, on: bool) -> None:
    cluster.hold_scale_in(NAME, SPEC.endpoint, on=on, token=1)


def policy(server: MemoryObjects, made_kind: str, place: tuple[str, ...]) -> str | None:
    found = server.objects[made_kind, NAME]["spec"]
    for name in (*place, "scaleDown"):
        found = found[name]
    chosen: str | None = found.get("selectPolicy")
    return chosen


@scalers
def test_scale_in__held_and_let_go__is_said_in_the_autoscaler_and_in_the_status(
    server: MemoryObjects, kind: str, made_kind: str, place: tuple[str, ...]
) -> None:
    cluster = scaled(server, kind)
    assert cluster.statuses()[NAME].scale_in_held is False
    before = copy.deepcopy(server.objects[made_kind, NAME]["spec"])
    hold(cluster, on=True)
    assert policy(server, made_kind, place) == "Disabled"
    assert cluster.statuses()[NAME].scale_in_held is True
    hold(cluster, on=False)
    assert policy(server, made_kind, place) == "Max"
    assert cluster.statuses()[NAME].scale_in_held is False
    after = server.objects[made_kind, NAME]["spec"]
    for name in place:
        after, before = after[name], before[name]
    assert {**after["scaleDown"], "selectPolicy": None} == {**before["scaleDown"], "selectPolicy": None}


@scalers
@pytest.mark.parametrize("on", [True, False])
def test_scale_in__as_it_is_already__writes_nothing(
    server: MemoryObjects, kind: str, made_kind: str, place: tuple[str, ...], on: bool
) -> None:
    cluster = scaled(server, kind)
    hold(cluster, on=on)
    written = list(server.writes)
    hold(cluster, on=on)
    assert server.writes == written


@scalers
def test_scale_in__launched_again_meanwhile__is_still_held(
    server: MemoryObjects, kind: str, made_kind: str, place: tuple[str, ...]
) -> None:
    cluster = scaled(server, kind)
    hold(cluster, on=True)
    a_pod(server, "RuntimeError: it ends", restarts=5)
    cluster.ensure(SPEC, token=1)
    assert policy(server, made_kind, place) == "Disabled"


def test_scale_in__autoscaler_that_somebody_deleted__takes_nothing_away(server: MemoryObjects) -> None:
    cluster = scaled(server, "hpa")
    del server.objects["HorizontalPodAutoscaler", NAME]
    hold(cluster, on=True)
    assert cluster.statuses()[NAME].scale_in_held is True


def test_scale_in__autoscaler_of_somebody_else__is_left_alone(server: MemoryObjects) -> None:
    cluster = scaled(server, "hpa")
    server.objects["HorizontalPodAutoscaler", NAME]["metadata"]["labels"] = {}
    with pytest.raises(Refused):
        hold(cluster, on=True)
    assert policy(server, "HorizontalPodAutoscaler", ("behavior",)) is None


def test_scale_in__changed_by_another_hand_in_the_midst__is_looked_at_anew(server: MemoryObjects) -> None:
    cluster = scaled(server, "hpa")
    key = ("HorizontalPodAutoscaler", NAME)
    read = server.get

    def between(kind: ObjectKind, name: str) -> dict[str, Any] | None:
        found = read(kind, name)
        if kind.name == key[0] and not seen:
            seen.append(name)
            server.keep({**server.objects[key], "spec": {**server.objects[key]["spec"], "maxReplicas": 9}})
        return found

    seen: list[str] = []
    server.get = between  # type: ignore[method-assign]
    hold(cluster, on=True)
    assert policy(server, key[0], ("behavior",)) == "Disabled"
    assert server.objects[key]["spec"]["maxReplicas"] == 9


@pytest.mark.parametrize("case", ["absent", "without an autoscaler"])
def test_scale_in__nothing_that_scales__changes_nothing_and_is_not_said(
    server: MemoryObjects, case: str
) -> None:
    cluster = cluster_of(server)
    if case != "absent":
        cluster.ensure(SPEC, token=1)
    written = set(server.writes)
    hold(cluster, on=True)
    new = set(server.writes) - written
    assert all(name.startswith("fence.") for _, name in new)
    assert {one.scale_in_held for one in cluster.statuses().values()} <= {None}


# --- other hands, and counts ----------------------------------------------------------------------------------------


def test_statuses__scaled_to_fewer_by_hand__are_not_whole_and_say_who(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(spec_of(replicas=2), token=1)
    a_pod(server)
    scale_by_hand(server, 1)
    status = cluster.statuses()[NAME]
    assert (status.phase, status.ready, status.desired) == (WorkloadPhase.READY, 1, 2)
    assert not status.view.is_whole
    assert status.message == "1 replica is asked for instead of 2 (set by kubectl)."
    assert status.drift == "Changed by hand: 1 replica is asked for instead of 2 (by kubectl)."


def test_statuses__scaled_to_none_by_hand__say_why_nothing_answers(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(spec_of(replicas=2), token=1)
    scale_by_hand(server, 0)
    status = cluster.statuses()[NAME]
    assert (status.phase, status.desired) == (WorkloadPhase.UNREADY, 2)
    assert status.message == "0 replicas are asked for instead of 2 (set by kubectl)."


def test_statuses__scaled_to_more_by_hand__count_as_many_as_there_should_be(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(spec_of(replicas=2), token=1)
    scale_by_hand(server, 3)
    status = cluster.statuses()[NAME]
    assert (status.desired, status.drift) == (
        3,
        "Changed by hand: 3 replicas are asked for instead of 2 (by kubectl).",
    )


def test_ensure__drifted__is_not_fought_over(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(spec_of(replicas=2), token=1)
    a_pod(server)
    scale_by_hand(server, 1)
    server.writes.clear()
    cluster.ensure(spec_of(replicas=2), token=2)
    assert [kind for kind, name in server.writes if name == NAME] == []
    assert server.objects[DEPLOYMENT]["spec"]["replicas"] == 1


def test_statuses__workload_that_somebody_deleted__is_absent_in_words_until_it_is_made_again(
    server: MemoryObjects,
) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    a_pod(server)
    del server.objects[DEPLOYMENT]
    status = cluster.statuses()[NAME]
    assert (status.phase, status.ready) == (WorkloadPhase.ABSENT, 0)
    assert status.message == "Somebody deleted its workload in the cluster; it is launched again."
    cluster.ensure(SPEC, token=1)
    assert DEPLOYMENT in server.objects
    assert cluster.statuses()[NAME].phase is WorkloadPhase.STARTING


def test_statuses__workload_that_is_gone_while_it_ends__is_draining(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    cluster.drain(NAME, SPEC.endpoint, token=1)
    del server.objects[DEPLOYMENT]
    assert cluster.statuses()[NAME].phase is WorkloadPhase.DRAINING


# --- odd and foreign objects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["[" * 100_000, '{"replicas": 1e999}', "null", "", '{"replicas": "many"}'])
def test_statuses__record_that_is_odd__is_of_that_variant_alone(server: MemoryObjects, odd: str) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    cluster.ensure(spec_of(variant="chat-v8"), token=1)
    given = server.objects[ANCHOR]["data"]["launch.json"]
    merged = {**json.loads(given), **json.loads(odd)} if odd.startswith("{") else None
    infinite = json.dumps(merged) if merged else odd
    server.objects[ANCHOR]["data"]["launch.json"] = infinite
    assert set(cluster.statuses()) == {NAME, "chat-v8"}
    assert cluster.launched(NAME) is None


def test_statuses__copy_of_an_anchor__hides_no_variant(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    a_pod(server)
    twin = copy.deepcopy(server.objects[ANCHOR])
    twin["metadata"] |= {"name": "zz-restored", "uid": "other"}
    twin["metadata"]["annotations"]["headgate.dev/draining-since"] = "1"
    server.keep(twin)
    assert cluster.statuses()[NAME].phase is not WorkloadPhase.DRAINING
    assert "deletionTimestamp" not in server.objects["ConfigMap", "zz-restored"]["metadata"]


def test_ensure__object_of_somebody_else_has_the_name__is_refused_and_left_as_it_is(
    server: MemoryObjects, tmp_path: Path
) -> None:
    make, folder, spec = with_a_secret(tmp_path)
    theirs = server.keep({"kind": "Secret", "metadata": {"name": NAME}, "data": {"password": "cGFzcw=="}})
    with pytest.raises(Refused, match=f"A Secret {NAME} is there already"):
        make(server, secrets=folder).ensure(spec, token=1)
    assert server.objects["Secret", NAME] == theirs


# --- other workers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["ensure", "drain"])
def test_worker__overtaken_after_its_token_was_looked_at__changes_nothing(
    server: MemoryObjects, act: str
) -> None:
    older, newer = cluster_of(server), cluster_of(server)
    older.ensure(SPEC, token=1)
    if act == "ensure":
        older.drain(NAME, "chat", token=1)

    def overtake() -> None:
        """It takes over, and changes its mind twice: as many writes as there are."""
        newer.drain(NAME, "chat", token=2)
        newer.ensure(SPEC, token=2)
        if act == "ensure":
            newer.drain(NAME, "chat", token=2)

    server.before_get[ANCHOR] = overtake
    with pytest.raises(StaleWriter):
        older.ensure(SPEC, token=1) if act == "ensure" else older.drain(NAME, "chat", token=1)
    draining = "headgate.dev/draining-since" in server.objects[ANCHOR]["metadata"]["annotations"]
    assert draining is (act == "ensure")


def test_ensure__takes_a_drain_back__deletes_nothing(server: MemoryObjects) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    cluster = cluster_of(server, clock=clock)
    cluster.ensure(SPEC, token=1)
    a_pod(server)
    cluster.drain(NAME, "chat", token=1)
    clock.advance(60)
    cluster.ensure(SPEC, token=1)
    metadata = server.objects[ANCHOR]["metadata"]
    assert "deletionTimestamp" not in metadata
    assert "headgate.dev/draining-since" not in metadata["annotations"]


def test_ensure__broken_off_at_the_second_launch__goes_on_with_it(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    a_pod(server, "Error: it ended", restarts=3)
    server.fail_write["Service", NAME] = Unavailable("The cluster did not answer.")
    server.objects.pop(("Service", NAME))
    with pytest.raises(Unavailable):
        cluster.ensure(SPEC, token=1)
    server.fail_write.clear()
    cluster.ensure(SPEC, token=1)
    template = server.objects[DEPLOYMENT]["spec"]["template"]["metadata"]["annotations"]
    assert template["headgate.dev/attempt"] == "1"
    assert server.objects[ANCHOR]["metadata"]["annotations"]["headgate.dev/attempt"] == "1"


def test_ensure__workload_that_somebody_deleted__is_made_again(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    del server.objects[DEPLOYMENT]
    cluster.ensure(SPEC, token=1)
    assert DEPLOYMENT in server.objects


@pytest.mark.parametrize("since", ["1e300", "inf", "nan", "1798761600"])
def test_statuses__drain_noted_by_a_clock_that_was_wrong__is_deleted_all_the_same(
    server: MemoryObjects, since: str
) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    a_pod(server)
    cluster.drain(NAME, "chat", token=1)
    server.objects[ANCHOR]["metadata"]["annotations"]["headgate.dev/draining-since"] = since
    cluster.statuses()
    assert "deletionTimestamp" in server.objects[ANCHOR]["metadata"]


# --- warnings -------------------------------------------------------------------------------------------------------


def an_event(server: MemoryObjects, name: str, message: str, *, uid: str = "", **times: Any) -> None:
    about = {"kind": "Pod", "name": f"{NAME}-0", **({"uid": uid} if uid else {})}
    server.keep(
        {
            "kind": "Event",
            "metadata": {"name": name, "creationTimestamp": STARTED},
            "type": "Warning",
            "involvedObject": about,
            "message": message,
            **times,
        }
    )


def test_warning__newest__is_told_whichever_field_has_its_time(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    a_pod(server)
    an_event(server, "b", "the newest", lastTimestamp=None, eventTime="2026-01-01T09:00:00.000001Z")
    an_event(server, "a", "an older one", lastTimestamp="2026-01-01T08:00:00Z")
    assert cluster._watches.snapshot().warnings == {f"{NAME}-0": "the newest"}


def test_warning__of_an_earlier_pod_of_the_same_name__is_not_told(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    a_pod(server)
    uid = server.objects["Pod", f"{NAME}-0"]["metadata"]["uid"]
    an_event(server, "a", "of this one", uid=uid, lastTimestamp="2026-01-01T08:00:00Z")
    an_event(server, "b", "of the one before", uid="gone", lastTimestamp="2026-01-01T08:30:00Z")
    assert cluster._watches.snapshot().warnings == {f"{NAME}-0": "of this one"}


def test_deletion__pod_that_somebody_keeps__is_said_while_it_is_deleted_and_launched_again(
    server: MemoryObjects,
) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    a_pod(server, finalizers=["team.example/backup"], deletionTimestamp=STARTED)
    server.objects[ANCHOR]["metadata"]["deletionTimestamp"] = STARTED
    words = f"The Pod {NAME}-0 waits until its finalizers are taken off: team.example/backup."
    assert cluster.statuses()[SPEC.variant].message == words
    with pytest.raises(Unavailable, match="still being deleted") as caught:
        cluster.ensure(SPEC, token=1)
    assert words in caught.value.message


def test_refused__pods_of_a_workload__are_told_at_the_next_look_and_not_once_they_are_there(
    server: MemoryObjects,
) -> None:
    cluster = a_cluster_that_watches(server)
    cluster.ensure(SPEC, token=1)
    assert cluster.statuses()[SPEC.variant].message == ""
    about = {"kind": "ReplicaSet", "name": f"{NAME}-5d9c"}
    an_event(server, "a", "exceeded quota: gpu", reason="FailedCreate", involvedObject=about)
    status = cluster.statuses()[SPEC.variant]
    assert (status.phase, status.message) == (
        WorkloadPhase.STARTING,
        "No pod can be made: exceeded quota: gpu",
    )
    a_pod(server)
    assert cluster.statuses()[SPEC.variant].message == ""


# --- keys -----------------------------------------------------------------------------------------------------------


def test_renew_secrets__one_anchor_is_changed_meanwhile__all_are_done(
    server: MemoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    cluster.ensure(spec_of(variant="chat-v8"), token=1)
    monkeypatch.setattr(
        "rollouts.adapters.clusters.kubernetes.cluster.renewed_environment",
        lambda spec, keys: None if spec.environment else {"LANG": "C"},
    )
    server.before_get[ANCHOR] = lambda: server.keep(server.objects[ANCHOR])
    once = cluster._watches.snapshot()
    monkeypatch.setattr(cluster._watches, "snapshot", lambda: once)
    server.keep(server.objects[ANCHOR])  # the watch has not seen this yet
    try:
        assert cluster.renew_secrets() == 2
    except Stale as error:
        pytest.fail(f"it stopped at the first: {error}")
    for key in (ANCHOR, ("ConfigMap", "chat-v8")):
        assert json.loads(server.objects[key]["data"]["launch.json"])["environment"] == {"LANG": "C"}


# --- many variants --------------------------------------------------------------------------------------------------


def test_statuses__anchor_that_somebody_spoilt__hides_no_other(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    odd = {**server.objects[ANCHOR], "metadata": {**server.objects[ANCHOR]["metadata"], "name": "odd"}}
    odd["metadata"]["annotations"] = ["headgate.dev/variant-name"]
    server.keep(odd)
    assert set(cluster.statuses()) == {NAME}
