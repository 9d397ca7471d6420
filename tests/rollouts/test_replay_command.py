"""`manage.py replay`: what it prints, and how it ends."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from controlplane.access.actors import HEADGATE
from rollouts.models import Evidence
from rollouts.services.policies.versions import define_gate_policy
from tests import factories

pytestmark = pytest.mark.django_db


def test_replay__identical__ends_well_and_prints_the_digest(capsys: pytest.CaptureFixture[str]) -> None:
    made = factories.rollout_rolled_back()
    call_command("replay", str(made.pk))
    out = capsys.readouterr().out
    assert "identical" in out
    assert made.evidence.latest("index").digest in out


def test_replay__several_as_json__one_line_each_and_the_worst_end(capsys: pytest.CaptureFixture[str]) -> None:
    first = factories.rollout_rolled_back()
    second = factories.rollout_progressing(of=first.endpoint)
    Evidence.objects.filter(rollout=second, index=2).delete()
    with pytest.raises(SystemExit) as ended:
        call_command("replay", str(first.pk), str(second.pk), "--json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["outcome"] == "identical"
    assert (lines[1]["code"], lines[1]["row"]) == ("evidence-tampered", "interval 2")
    assert ended.value.code == 12


def test_replay__another_policy_decides_otherwise__exit_11_with_both_reasons(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = factories.rollout_rolled_back()
    other = define_gate_policy(
        actor=HEADGATE, name="sooner", body={**made.gate_policy.body, "alpha": 0.4}, now=factories.right_now()
    )
    with pytest.raises(SystemExit) as ended:
        call_command("replay", str(made.pk), policy=str(other))
    out = capsys.readouterr().out
    assert ended.value.code == 11
    assert "recorded: " in out
    assert "replayed: " in out


def test_replay__unknown_rollout_or_policy__says_so() -> None:
    made = factories.rollout_rolled_back()
    with pytest.raises(CommandError, match="no rollout #4711"):
        call_command("replay", "4711")
    with pytest.raises(CommandError, match=r"--policy: There is no gate policy"):
        call_command("replay", str(made.pk), policy="nope@1")
