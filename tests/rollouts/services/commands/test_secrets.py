"""Secrets of specs are sealed before they are stored; a rotation puts them under the newest key."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from controlplane.kernel.errors import InvalidInput
from controlplane.sealing.keys import KeyRing, new_key
from controlplane.sealing.models import FingerprintKey
from rollouts.domain.engine_options import EngineOptions, Option, OptionKind
from rollouts.domain.secrets import KeptSecret, SealedSecret, SecretFile
from rollouts.domain.variants import ServingSpec
from rollouts.models import Variant
from rollouts.services.commands import secrets
from rollouts.services.commands.secrets import rotate_secrets, sealed_spec, spec_tried_dry
from tests.rollouts.memory_world import ERRORS, PLAN, MemoryWorld

pytestmark = pytest.mark.django_db

OLD, NEW = new_key(), new_key()
SECRET = "the licence of sentinel"
OPTIONS = EngineOptions("vllm", (), (Option("MODEL_LICENCE", OptionKind.SECRET, "Unlocks it."),))


def use(settings: Any, *keys: str) -> None:
    settings.HEADGATE = replace(settings.HEADGATE, encryption_keys=",".join(keys))


def with_secret(value: Any = SECRET) -> ServingSpec:
    return ServingSpec(environment={"MODEL_LICENCE": value})


def stored(number: int) -> SealedSecret:
    found = Variant.objects.get(version__number=number).spec.environment["MODEL_LICENCE"]
    assert isinstance(found, SealedSecret)
    return found


def test_sealed__secret_variable__is_encrypted_and_the_others_are_not() -> None:
    spec = ServingSpec(environment={"MODEL_LICENCE": SECRET, "OMP_NUM_THREADS": "2"})
    found = sealed_spec(spec=spec, options=OPTIONS, stable=None)
    assert found.environment["OMP_NUM_THREADS"] == "2"
    assert SECRET not in json.dumps(found.to_json())


def test_sealed__nobody_can_say_what_is_secret__takes_all_for_secret() -> None:
    found = sealed_spec(spec=with_secret(), options=None, stable=None)
    assert isinstance(found.environment["MODEL_LICENCE"], SealedSecret)


def test_tried_dry__before_the_first_stored_secret__writes_nothing_and_says_the_same_again() -> None:
    tries = [spec_tried_dry(spec=with_secret(), options=OPTIONS, stable=None) for _ in range(2)]
    assert tries[0] == tries[1]
    assert SECRET not in json.dumps(tries[0].to_json())
    assert not FingerprintKey.objects.exists()


def test_tried_dry__once_a_secret_is_stored__is_called_as_what_is_stored() -> None:
    kept = sealed_spec(spec=with_secret(), options=OPTIONS, stable=None).environment["MODEL_LICENCE"]
    tried = spec_tried_dry(spec=with_secret(), options=OPTIONS, stable=None).environment["MODEL_LICENCE"]
    assert isinstance(kept, SealedSecret)
    assert isinstance(tried, SealedSecret)
    assert (tried.fingerprint, tried.sealed) == (kept.fingerprint, "")


@pytest.mark.story
def test_start__same_secret_twice__is_the_same_variant(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    first = w.start(2, serving=with_secret()).candidate.name
    w.start(2, serving=with_secret(), supersede=True)
    assert w.rollout.candidate.name == first
    w.start(2, serving=with_secret(SECRET + "!"), supersede=True)
    assert w.rollout.candidate.name != first


@pytest.mark.story
def test_start__keep_what_the_stable_variant_has__needs_no_value(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2, serving=with_secret())
    w.run_to("succeeded")
    shown = w.endpoint.stable.public_serving  # type: ignore[union-attr]
    w.start(3, serving=ServingSpec.from_json(shown))
    assert stored(3).fingerprint == stored(2).fingerprint
    w.run(lambda: w.variant(3).name in w.cluster.environments)
    assert w.cluster.environments[w.variant(3).name]["MODEL_LICENCE"] == SECRET
    w.roll_back()
    w.run_to("rolled-back")
    for fingerprint in ("", stored(2).fingerprint):
        assert w.start(4, serving=with_secret(KeptSecret(fingerprint)), supersede=True)
    with pytest.raises(InvalidInput) as caught:
        w.start(4, serving=with_secret(KeptSecret("0123")), supersede=True)
    assert (caught.value.field, caught.value.code) == ("serving.environment.MODEL_LICENCE", "secret-not-set")


def test_start__reference_to_no_file__is_refused_naming_those_that_there_are(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,))
    w.secrets_dir.mkdir(mode=0o700)
    (w.secrets_dir / "real").write_text(SECRET)
    (w.secrets_dir / "real").chmod(0o600)
    with pytest.raises(InvalidInput, match="real") as caught:
        w.start(2, serving=with_secret(SecretFile("reel")))
    assert caught.value.field == "serving.environment.MODEL_LICENCE"


@pytest.mark.story
def test_launch__file_went_away_meanwhile__fails_saying_so(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.secrets_dir.mkdir(mode=0o700)
    path = w.secrets_dir / "licence"
    path.write_text(SECRET)
    path.chmod(0o600)
    w.start(2, serving=with_secret(SecretFile("licence")))
    path.unlink()
    w.run_to("rolled-back")
    assert (w.rollout.cause, w.workload(2).reason) == ("launch:no-secret", "no-secret")
    assert "'licence'" in w.rollout.cause_sentence
    path.write_text(SECRET)
    path.chmod(0o600)
    w.start(2, serving=with_secret(SecretFile("licence")))
    w.run(lambda: w.variant(2).name in w.cluster.environments)
    assert w.cluster.environments[w.variant(2).name]["MODEL_LICENCE"] == SECRET


# --- rotation ---------------------------------------------------------------------------------------------------


def two_secrets(w: MemoryWorld, settings: Any) -> None:
    """Versions 2 and 3 each have a secret under the old key; version 3 runs."""
    use(settings, OLD)
    w.serve()
    w.start(2, serving=with_secret(), plan=PLAN)
    w.run(lambda: w.variant(2).name in w.cluster.environments)
    w.roll_back()
    w.run_to("rolled-back")
    w.start(3, serving=with_secret("another " + SECRET))
    w.run(lambda: w.variant(3).name in w.cluster.environments)


@pytest.mark.story
def test_rotate__killed_half_way_and_run_again__all_is_readable_without_the_old_key(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,))
    two_secrets(w, settings)
    names = set(Variant.objects.values_list("name", flat=True))
    use(settings, NEW, OLD)
    real = secrets._rotate_variant

    def killed(pk: int) -> tuple[int, int, int]:
        done = real(pk)
        if done[0]:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(secrets, "_rotate_variant", killed)
    with pytest.raises(KeyboardInterrupt):
        rotate_secrets(worlds=w.worlds)
    monkeypatch.undo()
    with_both = KeyRing([NEW, OLD])
    assert with_both.open(stored(2).sealed, what="") == SECRET
    assert with_both.open(stored(3).sealed, what="") == "another " + SECRET

    second = rotate_secrets(worlds=w.worlds)
    assert (second.renewed, second.already, second.problems) == (
        2,
        1,
        (),
    )  # a variant, and what the cluster keeps
    third = rotate_secrets(worlds=w.worlds)
    assert (third.renewed, third.already) == (0, 2)

    use(settings, NEW)
    assert KeyRing([NEW]).open(stored(2).sealed, what="") == SECRET
    assert KeyRing([NEW]).open(stored(3).sealed, what="") == "another " + SECRET
    assert set(Variant.objects.values_list("name", flat=True)) == names
    w.roll_back()
    w.run_to("rolled-back")
    w.start(2, serving=with_secret())
    assert w.rollout.candidate.name in names
    w.run_to("succeeded")


@pytest.mark.story
def test_rotate__key_of_one_variant_is_missing__names_it_and_does_the_others(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,))
    two_secrets(w, settings)
    lost = Variant.objects.get(version__number=2)
    lost.serving = with_secret(SealedSecret(KeyRing([new_key()]).seal("x" * 9), "00")).to_json()
    lost.save()
    use(settings, NEW, OLD)
    monkeypatch.setattr("rollouts.wiring.worlds", lambda: w.worlds)
    told = StringIO()
    with pytest.raises(CommandError, match=f"MODEL_LICENCE of {lost.name} was encrypted with a key"):
        call_command("rotate_secrets", stdout=told)
    assert KeyRing([NEW]).open(stored(3).sealed, what="") == "another " + SECRET
    assert told.getvalue().startswith("3 put under the newest of 2 keys")
    w.run_to("succeeded")  # nothing else stops


def test_rotate__secret_stored_in_the_clear_by_an_earlier_version__is_sealed(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,))
    variant = Variant.objects.get(version__number=1)
    variant.serving = {**variant.serving, "environment": {"HF_TOKEN": SECRET, "OMP_NUM_THREADS": "2"}}
    variant.save()
    assert rotate_secrets(worlds=w.worlds).sealed == 1
    variant.refresh_from_db()
    assert SECRET not in json.dumps(variant.serving)
    assert variant.spec.environment["OMP_NUM_THREADS"] == "2"
    assert rotate_secrets(worlds=w.worlds).sealed == 0


def test_command__new_key_where_the_setting_is_used__is_refused(settings: Any) -> None:
    use(settings, OLD)
    with pytest.raises(CommandError, match="HEADGATE_ENCRYPTION_KEYS is set"):
        call_command("rotate_secrets", "--new-key")
