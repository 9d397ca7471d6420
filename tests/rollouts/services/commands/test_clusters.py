"""Writing a cluster down: every mistake named, told to the audit trail, and noticed by the loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection
from django.db.models import JSONField, Value

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput
from rollouts import wiring
from rollouts.domain.clusters import ClusterSpec
from rollouts.models import Cluster, Endpoint
from rollouts.services.commands.clusters import all_clusters, set_cluster
from tests import factories
from tests.rollouts.worlds import world_in_memory, worlds_of

pytestmark = pytest.mark.django_db


def write(actor: Actor, **changes: Any) -> bool:
    arguments: dict[str, Any] = {
        "name": "paris", "kind": "local", "secret": "", "problems": wiring.cluster_problems,
        "configuration": {"run_dir": "/srv/p", "gateway_port": 8_700, "engine_ports": "18200-18299"},
    }  # fmt: skip
    return set_cluster(**{**arguments, **changes}, actor=actor, now=factories.right_now())


@pytest.fixture
def admin() -> Actor:
    return Actor.person(factories.person(Role.ADMINISTRATOR))


def test_set_cluster__new_one__is_kept_and_audited(admin: Actor) -> None:
    assert write(admin)
    row = Cluster.objects.get(name="paris")
    assert row.configuration["gateway_port"] == 8_700
    event = AuditEvent.objects.get(action="cluster.created")
    assert (event.object_id, event.before) == ("paris", None)
    assert event.after is not None
    assert event.after["configuration"]["run_dir"] == "/srv/p"


def test_set_cluster__the_same_again__changes_and_tells_nothing(admin: Actor) -> None:
    write(admin)
    assert not write(admin)
    assert AuditEvent.objects.filter(object_kind="cluster").count() == 1


def test_set_cluster__other_address__wakes_the_endpoints_that_are_there(admin: Actor) -> None:
    write(admin)
    made = factories.endpoint()
    made.cluster = Cluster.objects.get(name="paris")
    made.next_look_at = factories.right_now()
    made.save()
    configuration = {**made.cluster.configuration, "gateway_url": "https://paris.example"}
    assert not write(admin, configuration=configuration)
    assert Endpoint.objects.get().next_look_at is None
    assert AuditEvent.objects.get(action="cluster.changed").before is not None


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"name": "Paris!"}, ["name"]),
        ({"name": "paris\n"}, ["name"]),
        ({"kind": "moonbase"}, ["kind"]),
        ({"secret": "../token"}, ["secret"]),
        ({"secret": "token"}, ["secret"]),
        (
            {"configuration": {"run_dir": "srv"}},
            ["configuration.run_dir", "configuration.gateway_port", "configuration.engine_ports"],
        ),
        ({"configuration": {str(number): 1 for number in range(60)}}, ["configuration"]),
    ],
)
def test_set_cluster__mistakes__every_field_is_named_and_nothing_is_kept(
    admin: Actor, changes: dict[str, Any], fields: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        write(admin, **changes)
    named = [one["field"] for one in caught.value.extra.get("problems", [])] or [caught.value.field]
    assert named == fields
    assert not Cluster.objects.filter(name="paris").exists()


@pytest.mark.parametrize("stored", [["odd"], [], "odd", "", 7, None, {"gateway_port": 8_700.0}])
def test_set_cluster__row_that_nobody_understands__can_be_mended(admin: Actor, stored: Any) -> None:
    sound = {"run_dir": "/srv/p", "gateway_port": 8_700, "engine_ports": "18200-18299"}
    broken = {**sound, **stored} if isinstance(stored, dict) else stored
    null = Value(None, JSONField())  # JSON's null: the column itself is never empty
    Cluster.objects.create(name="paris", kind="local", configuration=null if broken is None else broken)
    assert not write(admin)
    row = Cluster.objects.get(name="paris")
    assert (row.configuration, type(row.configuration["gateway_port"])) == (sound, int)
    event = AuditEvent.objects.get(action="cluster.changed")
    assert event.before is not None
    assert event.before["configuration"] == broken


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_set_cluster__two_at_once__the_second_sees_the_first(admin: Actor) -> None:
    Cluster.objects.get_or_create(name="local", kind="local")  # what every installation has
    asked, failed = threading.Event(), []

    def slowly(spec: ClusterSpec) -> Sequence[InvalidInput]:
        found = wiring.cluster_problems(spec)
        asked.set()
        time.sleep(0.5)  # so long the other one has to look before this one is stored
        return found

    def first() -> None:
        try:
            write(admin, name="berlin", problems=slowly)
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    one = threading.Thread(target=first)
    one.start()
    assert asked.wait(10)
    with pytest.raises(InvalidInput, match="cluster berlin uses"):
        write(admin, name="paris")
    one.join(30)
    assert failed == []


class NothingDeclared:
    """A gateway that is tried, and of which nothing is declared."""

    def declared(self) -> None:
        return None


def test_all_clusters__row_of_one_is_odd__it_cannot_be_used_and_the_others_are_shown() -> None:
    clock = ManualClock(factories.right_now())
    for name, trials in (("odd", ["odd"]), ("sound", {})):
        Cluster.objects.create(name=name, kind="local", trials=trials)
    worlds = worlds_of(*(world_in_memory(clock, name, trials=NothingDeclared()) for name in ("odd", "sound")))
    problems = {one.name: one.problem for one in all_clusters(worlds=worlds)}
    assert problems["sound"] is None
    assert problems["odd"] is not None
    assert "What is stored of the cluster odd cannot be read" in problems["odd"].message
