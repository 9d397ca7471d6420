"""What is written on a version once its files were looked at: told when it changes, and a change of files audited
once."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import NotFound, TamperedFile
from controlplane.web.models import LiveEvent
from registry.domain.formats import FileClass, FormatKind
from registry.models import ManifestState, Version
from registry.services.marks import load_version, mark_changed, mark_version, refused_of
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def version() -> Version:
    return factories.model().versions.get(number=1)


def again(version: Version) -> Version:
    return Version.objects.get(pk=version.pk)


def test_mark__another_state__is_kept_with_its_time_and_told(version: Version, now: datetime) -> None:
    mark_version(version, ManifestState.FAILED, "It is empty.", now)
    found = again(version)
    assert (found.manifest_state, found.manifest_problem, found.manifest_checked_at) == (
        "failed", "It is empty.", now,
    )  # fmt: skip
    assert LiveEvent.objects.count() == 1


def test_mark__as_it_was__keeps_the_time_and_tells_nobody(version: Version, now: datetime) -> None:
    mark_version(version, ManifestState.VERIFIED, "", now)
    assert again(version).manifest_checked_at == now
    assert not LiveEvent.objects.exists()


def test_mark_changed__first_time__is_audited_with_the_file(version: Version, now: datetime) -> None:
    mark_changed(version, TamperedFile("model.safetensors", "differs"), now)
    assert again(version).manifest_state == ManifestState.CHANGED
    told = AuditEvent.objects.get(action="version.changed")
    assert (told.before, told.after) == (
        {"manifest_state": "verified"},
        {"manifest_state": "changed", "path": "model.safetensors"},
    )


def test_mark_changed__still_changed__is_not_audited_again(version: Version, now: datetime) -> None:
    error = TamperedFile("model.safetensors", "differs")
    for _ in range(2):
        mark_changed(again(version), error, now)
    assert AuditEvent.objects.count() == 1


WEIGHTS = FileClass("model.safetensors", FormatKind.WEIGHTS)
CODE = FileClass("modeling.py", FormatKind.CODE, "it is Python")


def test_refused__one_file_is_not_data__is_that_one_unless_it_was_allowed_and_classes_are_kept(
    version: Version,
) -> None:
    assert refused_of(version, [WEIGHTS, CODE], []) == (CODE,)
    assert refused_of(version, [WEIGHTS, CODE], ["modeling.py"]) == ()
    assert again(version).file_classes == [WEIGHTS.to_json(), CODE.to_json()]


def test_refused__classes_are_kept_as_they_are__writes_nothing(version: Version) -> None:
    version.file_classes = [WEIGHTS.to_json()]
    with CaptureQueriesContext(connection) as asked:
        assert refused_of(version, [WEIGHTS], []) == ()
    assert len(asked) == 0


def test_load__version_that_there_is_not__is_not_found_and_else_comes_with_its_model(
    version: Version,
) -> None:
    with pytest.raises(NotFound, match="77777"):
        load_version(77777)
    assert load_version(version.pk).model.name == "triage"
