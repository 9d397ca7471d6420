"""The command against the real API over HTTP: what a pipeline does, from end to end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pytest_django.live_server_helper import LiveServer

from controlplane.access.roles import Role
from controlplane.access.services import Scope, create_token
from registry.models import GoldenSet
from rollouts.models import Endpoint, GlobalStop, Rollout
from tests import factories
from tests.controlplane.cli.conftest import Outcome, Run, run  # noqa: F401  (a fixture)
from tests.factories import bandits
from tests.factories.endpoints import held_after_restore

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]

CommandAs = Callable[..., Callable[..., Outcome]]


@pytest.fixture
def command_as(live_server: LiveServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> CommandAs:  # noqa: F811
    """The command with a token of somebody of that role."""

    def make(role: Role = Role.RELEASE_MANAGER, scopes: tuple[Scope, ...] = tuple(Scope)) -> Run:
        _, secret = create_token(
            user=factories.person(role), name="ci", scopes=scopes, expires_at=None, now=datetime.now(UTC)
        )
        monkeypatch.setenv("HEADGATE_URL", live_server.url)
        monkeypatch.setenv("HEADGATE_TOKEN", secret)
        return run

    return make


def test_start__real_api__starts_and_status_shows_it(command_as: CommandAs) -> None:
    factories.endpoint()
    headgate = command_as()

    started = headgate("rollout", "start", "triage", "v2", "--note", "build 7", "--json")

    assert started.code == 0, started.out + started.err
    made = Rollout.objects.get()
    assert started.json["rollout"]["id"] == made.pk
    status = headgate("rollout", "status", "triage")
    assert status.out.startswith(f"#{made.pk} triage v2  pending  0%")


def test_start__dry_run__shows_checks_and_starts_nothing(command_as: CommandAs) -> None:
    factories.endpoint()

    outcome = command_as()("rollout", "start", "triage", "2", "--dry-run")

    assert outcome.code == 0, outcome.err
    assert "The rollout can start." in outcome.out
    assert not Rollout.objects.exists()


def test_start__steps_too_small_to_prove_anything__is_refused_naming_the_field(command_as: CommandAs) -> None:
    factories.endpoint()

    outcome = command_as()("rollout", "start", "triage", "2", "--steps", "5,10", "--json")

    assert outcome.code == 3
    assert outcome.json["problem"]["errors"][0]["field"] == "plan.steps"
    assert not Rollout.objects.exists()


def test_start__bandit__starts_with_an_arm_a_version(command_as: CommandAs) -> None:
    served = factories.endpoint()
    factories.minutes_of_traffic(served, minutes=30)
    factories.ratings(served)
    headgate = command_as()
    wanted = ("rollout", "start", "triage", "2", "3", "--strategy", "bandit", "--beta", "0.7")

    tried = headgate(*wanted, "--dry-run")
    started = headgate(*wanted, "--json")

    assert "First shares: v1 33.34%, v2 33.33%, v3 33.33%." in tried.out
    assert "An arm rated down half as often" in tried.out
    assert started.code == 0, started.out + started.err
    assert [arm["version"] for arm in started.json["rollout"]["arms"]] == [1, 2, 3]
    assert Rollout.objects.get().plan["bandit"]["beta"] == 0.7
    shares = "v1 0%, v2 0%, v3 0%"
    assert headgate("rollout", "status", "triage").out.startswith(
        f"#{Rollout.objects.get().pk} triage bandit  pending  {shares}"
    )


def test_start__bandit_s_value_is_wrong__is_refused_naming_it(command_as: CommandAs) -> None:
    factories.endpoint()

    outcome = command_as()(
        "rollout", "start", "triage", "2", "--strategy", "bandit", "--baseline-share", "0", "--json"
    )

    assert outcome.code == 3
    assert outcome.json["problem"]["errors"][0]["field"] == "plan.bandit.baseline_bp"


def test_wait__bandit_without_a_winner__ends_with_10_and_a_person_chooses(command_as: CommandAs) -> None:
    made = bandits.bandit_tied()
    headgate = command_as()

    waited = headgate("rollout", "wait", str(made.pk), "--json")
    looked = headgate("rollout", "status", str(made.pk))
    unsaid = headgate("rollout", "promote", str(made.pk), "--json")
    chosen = headgate("rollout", "promote", str(made.pk), "--arm", "candidate-2", "--json")

    assert (waited.code, waited.json["result"]) == (10, "undecided")
    assert waited.json["bandit"]["tie_sentence"] == made.verdicts["tie_sentence"]
    assert "AGAINST IT" in looked.out
    assert (unsaid.code, unsaid.json["problem"]["errors"][0]["field"]) == (3, "arm")
    assert (chosen.code, chosen.json["rollout"]["candidate"]["version"]) == (0, 3)


def test_start__another_active__is_a_conflict(command_as: CommandAs) -> None:
    factories.rollout_progressing()

    assert command_as()("rollout", "start", "triage", "3").code == 5


def test_wait__rolled_back_by_a_gate__ends_with_1_and_its_sentence(command_as: CommandAs) -> None:
    made = factories.rollout_rolled_back()

    outcome = command_as(Role.VIEWER, (Scope.READ,))("rollout", "wait", str(made.pk), "--json")

    assert outcome.code == 1
    assert outcome.json["reason"] == made.cause_sentence
    assert outcome.json["rollout"]["cause"] == "gate:quality"


def test_wait__promoted__ends_with_0(command_as: CommandAs) -> None:
    factories.rollout_promoted()

    assert command_as()("rollout", "wait", "triage").code == 0


def test_actions__pause_and_rollback__do_it(command_as: CommandAs) -> None:
    made = factories.rollout_progressing()
    headgate = command_as(Role.ENGINEER)

    paused = headgate("rollout", "pause", str(made.pk), "--why", "Lunch.", "--json")
    stale = headgate("rollout", "resume", str(made.pk), "--expected-version", "1", "--json")
    back = headgate("rollout", "rollback", str(made.pk))

    assert (paused.code, paused.json["rollout"]["phase"]) == (0, "paused")
    assert (stale.code, stale.json["problem"]["extra"]["current"]["phase"]) == (5, "paused")
    assert (back.code, Rollout.objects.get().phase) == (0, "rolling-back")


def test_promote__engineer__is_not_allowed(command_as: CommandAs) -> None:
    made = factories.rollout_progressing()

    outcome = command_as(Role.ENGINEER)("rollout", "promote", str(made.pk))

    assert outcome.code == 9
    assert outcome.err.startswith("Needs release manager.")


def test_lists__rollouts_and_endpoints__are_tables(command_as: CommandAs) -> None:
    made = factories.rollout_paused()
    headgate = command_as(Role.VIEWER)

    rollouts = headgate("rollout", "list", "--active").out.splitlines()
    endpoints = headgate("endpoint", "list").out.splitlines()

    assert rollouts[0].split()[:4] == ["ROLLOUT", "ENDPOINT", "VERSION", "PHASE"]
    assert rollouts[1].split()[:4] == [f"#{made.pk}", "triage", "v2", "paused"]
    assert endpoints[1].split()[:3] == ["triage", "triage", made.baseline.name]


def test_golden_upload__twice__keeps_one_revision(command_as: CommandAs, tmp_path: Path) -> None:
    file = tmp_path / "billing.jsonl"
    file.write_text('{"prompt": "The invoice is wrong", "expected": "billing"}\n')
    headgate = command_as(Role.ENGINEER)

    outcomes = [headgate("golden", "upload", "billing", str(file)) for _ in range(2)]

    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert outcomes[0].out == "billing@1 holds 1 examples.\n"
    assert GoldenSet.objects.filter(name="billing").count() == 1


def test_golden_upload__bad_line__is_refused_and_keeps_nothing(command_as: CommandAs, tmp_path: Path) -> None:
    file = tmp_path / "billing.jsonl"
    file.write_text('{"prompt": "The invoice is wrong"}\n')

    outcome = command_as(Role.ENGINEER)("golden", "upload", "billing", str(file), "--json")

    assert outcome.code == 3
    assert "expected" in str(outcome.json["problem"])
    assert not GoldenSet.objects.exists()


def test_stop__on_and_off__sets_and_lifts_it(command_as: CommandAs) -> None:
    headgate = command_as()

    assert headgate("stop", "on", "--why", "Incident 12").code == 0
    assert GlobalStop.objects.get().on is True
    assert "Incident 12" in headgate("stop", "status").out
    assert headgate("stop", "off").code == 0
    assert GlobalStop.objects.get().on is False


def test_endpoint_restore__held__is_chosen(command_as: CommandAs) -> None:
    held_after_restore(factories.endpoint())
    headgate = command_as()

    told = headgate("endpoint", "restore", "triage", "keep", "--why", "v9 was promoted")

    assert (told.code, told.out) == (0, "triage: triage-v9-abcdef is kept and becomes the stable variant.\n")
    assert Endpoint.objects.get().restored_state == "keeping"
    assert headgate("endpoint", "restore", "triage", "return").code == 0
    assert Endpoint.objects.get().restored_state == "returning"


def test_endpoint_restore__nothing_to_choose__conflict(command_as: CommandAs) -> None:
    factories.endpoint()
    told = command_as()("endpoint", "restore", "triage", "keep")
    assert told.code == 5
    assert "Nothing is to be chosen for triage." in told.err


def test_whoami__token__tells_role_and_scopes(command_as: CommandAs) -> None:
    assert command_as(Role.ENGINEER, (Scope.READ,))("whoami").out == "engineer, engineer, scopes: read\n"


def test_any__token_unknown__is_not_allowed(command_as: CommandAs, monkeypatch: pytest.MonkeyPatch) -> None:
    headgate = command_as()
    monkeypatch.setenv("HEADGATE_TOKEN", "hg_unknown")

    assert headgate("endpoint", "list").code == 9
