from __future__ import annotations

from datetime import datetime

import pytest

from controlplane.access.actors import Actor
from controlplane.access.services import ensure_user
from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import Forbidden, InvalidInput
from registry.models import GoldenExample, GoldenSet
from registry.services.golden import upload_golden_set

pytestmark = pytest.mark.django_db

TEXT = """{"prompt": "Refund?", "expected": "billing"}
{"prompt": "Parcel?", "expected": "shipping", "max_tokens": 4}
"""


@pytest.fixture
def engineer() -> Actor:
    return Actor.person(ensure_user(username="eli", role="engineer", password="x"))


def test_upload__first__revision_one_with_its_examples_in_order(engineer: Actor, now: datetime) -> None:
    made, new = upload_golden_set(name="tickets", text=TEXT, actor=engineer, now=now)
    assert (made.label, made.size, made.created_by, new) == ("tickets@1", 2, engineer.user, True)
    examples = made.examples.all()
    assert [(e.position, e.messages, e.expected, e.scorer, e.max_tokens) for e in examples] == [
        (0, [{"role": "user", "content": "Refund?"}], "billing", "exact", 64),
        (1, [{"role": "user", "content": "Parcel?"}], "shipping", "exact", 4),
    ]


def test_upload__same_content_again__same_revision(engineer: Actor, now: datetime) -> None:
    first, _ = upload_golden_set(name="tickets", text=TEXT, actor=engineer, now=now)
    second, new = upload_golden_set(name="tickets", text=TEXT + "\n", actor=engineer, now=now)
    assert (second.pk, new) == (first.pk, False)


def test_upload__other_content__next_revision_and_the_first_stays(engineer: Actor, now: datetime) -> None:
    upload_golden_set(name="tickets", text=TEXT, actor=engineer, now=now)
    upload_golden_set(name="tickets", text=TEXT.splitlines()[0], actor=engineer, now=now)
    assert [(s.revision, s.size) for s in GoldenSet.objects.order_by("revision")] == [(1, 2), (2, 1)]


def test_upload__one_faulty_line__nothing_kept(engineer: Actor, now: datetime) -> None:
    with pytest.raises(InvalidInput, match="Line 3"):
        upload_golden_set(name="tickets", text=TEXT + "{", actor=engineer, now=now)
    assert not GoldenSet.objects.exists()


def test_upload__viewer__forbidden_naming_the_role(now: datetime) -> None:
    viewer = Actor.person(ensure_user(username="vi", role="viewer", password="x"))
    with pytest.raises(Forbidden, match="engineer"):
        upload_golden_set(name="tickets", text=TEXT, actor=viewer, now=now)


def test_upload__done__audited(engineer: Actor, now: datetime) -> None:
    upload_golden_set(name="tickets", text=TEXT, actor=engineer, now=now)
    event = AuditEvent.objects.get()
    assert (event.actor, event.action, event.object_id) == ("eli", "golden_set.uploaded", "tickets@1")


def test_golden_set__saved_again__refused_because_it_is_immutable(engineer: Actor, now: datetime) -> None:
    made, _ = upload_golden_set(name="tickets", text=TEXT, actor=engineer, now=now)
    with pytest.raises(TypeError, match="immutable"):
        made.save()
    with pytest.raises(TypeError, match="immutable"):
        GoldenExample.objects.earliest("position").save()
