"""Typed reads for pages and the API. Each says how many queries it costs; none grows with the number of
rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import (
    CharField,
    Count,
    DateTimeField,
    Exists,
    F,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    Window,
)
from django.db.models.functions import Cast, Coalesce

from controlplane.kernel.errors import NotFound
from controlplane.passes.models import ItemTrouble
from controlplane.timekeeping.claims import TOLERANCE, free
from registry.models import (
    Alias,
    AliasMove,
    GoldenExample,
    GoldenSet,
    ManifestState,
    MirrorState,
    Model,
    Version,
)

# The passes over foreign things, as people read them.
MODELS, DETAILS, MANIFESTS = "models", "version details", "files of versions"
CHANGED, REFUSED = "changed versions", "refused versions"
# So long a version is kept for who reads its files and says nothing: a worker that was killed holds it no longer.
CLAIM_LIFETIME = timedelta(minutes=2)
CHECKED_AGAIN = timedelta(minutes=30)  # so long after its last check a changed version is checked again
VERSIONS_A_PAGE = 25
MOVES_SHOWN = 20
VERSIONS_COMPARED = 8


@dataclass(frozen=True, slots=True)
class MirrorHealth:
    """How fresh the read model is. `age_seconds` is None before the store was ever read; `error` "" when
    well.
    """

    last_success_at: datetime | None
    age_seconds: float | None
    error: str
    error_at: datetime | None

    @property
    def is_down(self) -> bool:
        return bool(self.error)


@dataclass(frozen=True, slots=True)
class AliasRow:
    """An alias and the version it points to."""

    name: str
    number: int

    @property
    def label(self) -> str:
        return f"v{self.number}"


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of the list of models. `changed_count` counts versions whose files are not what was
    registered.
    """

    id: int
    name: str
    description: str
    version_count: int
    changed_count: int
    newest_number: int | None
    newest_at: datetime | None
    aliases: tuple[AliasRow, ...]
    gone_at: datetime | None


@dataclass(frozen=True, slots=True)
class ModelDetail:
    """What the head of a model's page shows. `problems` are versions that changed, failed or cannot be read, newest
    first, at most a page of them; `problem_count` is of all."""

    model: Model
    version_count: int
    newest: Version | None
    aliases: tuple[AliasRow, ...]
    problems: tuple[Version, ...]
    problem_count: int


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One line of the list of versions. `refusal` says why it may not be launched, "" when it may."""

    version: Version
    aliases: tuple[str, ...]
    refusal: str


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Versions, newest first. `next_before` is the number to pass for the next page, None at the end."""

    rows: tuple[VersionRow, ...]
    next_before: int | None


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric over versions, in the order of `Evaluations.versions`; None where a version lacks it."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Metrics of the newest versions, oldest first, for a plot. Measures that most versions have come
    first.
    """

    versions: tuple[Version, ...]
    measures: tuple[Measure, ...]


def mirror_health(*, now: datetime) -> MirrorHealth:
    """One query."""
    state = MirrorState.objects.filter(id=1).first()
    if state is None:
        return MirrorHealth(None, None, "", None)
    age = (now - state.last_success_at).total_seconds() if state.last_success_at else None
    return MirrorHealth(
        state.last_success_at, age, state.last_error if state.is_down else "", state.last_error_at
    )


def last_read(model: str = "") -> Coalesce:
    """When MLflow was last read to have a model as we do: an annotation, no query of its own. `model` leads from the
    annotated row to the model, such as `endpoint__model__`; None before the first pass."""
    read_at = MirrorState.objects.filter(id=1).values("models_read_at")
    return Coalesce(F(f"{model}last_read_at"), Subquery(read_at[:1]), output_field=DateTimeField())


def list_models(
    *, search: str = "", after: str = "", limit: int = 100, include_gone: bool = False
) -> list[ModelRow]:
    """Models by name, from the one behind `after` on, with counts and aliases. Two queries."""
    return [
        _model_row(model) for model in models_with_counts(search, include_gone).filter(name__gt=after)[:limit]
    ]


def models_with_counts(search: str = "", include_gone: bool = False) -> QuerySet[Model]:
    """Models by name, annotated with `version_count`, `changed_count`, `newest_number`, `newest_at`,
    `synced_at`, aliases prefetched. Two queries when evaluated.
    """
    models = Model.objects.order_by("name")
    if not include_gone:
        models = models.filter(gone_at=None)
    if search:
        models = models.filter(name__icontains=search)
    present = Version.objects.filter(model=OuterRef("pk"), gone_at=None).order_by()
    newest = present.order_by("-number")
    # Subqueries, not joins: each touches the index of one model, so a page costs the same in a large
    # registry.
    return models.annotate(
        version_count=_count(present),
        changed_count=_count(present.filter(manifest_state=ManifestState.CHANGED)),
        newest_number=Subquery(newest.values("number")[:1]),
        newest_at=Subquery(newest.values("created_at")[:1]),
        synced_at=last_read(),
        **_trouble_of((MODELS,), OuterRef("name")),
    ).prefetch_related(_aliases_prefetch())


def get_model(*, name: str) -> ModelDetail:
    """One model by name. Raises NotFound. Five queries."""
    models = Model.objects.filter(name=name).annotate(**_trouble_of((MODELS,), OuterRef("name")))
    model = models.prefetch_related(_aliases_prefetch()).first()
    if model is None:
        raise NotFound(
            f"There is no model {name!r}.", fix="Register it in MLflow; it is read within seconds."
        )
    present = model.versions.filter(gone_at=None)
    bad = present.annotate(**_trouble_of_version()).filter(
        Q(manifest_state__in=(ManifestState.CHANGED, ManifestState.FAILED)) | Q(trouble_error__isnull=False)
    )
    newest = list(present.select_related("model").defer("manifest", "file_classes")[:1])
    bad = bad.select_related("model").defer("manifest", "file_classes").annotate(in_all=Window(Count("pk")))
    problems = tuple(bad[:VERSIONS_A_PAGE])
    return ModelDetail(
        model=model,
        version_count=present.count(),
        newest=newest[0] if newest else None,
        aliases=_alias_rows(model),
        problems=problems,
        problem_count=getattr(problems[0], "in_all") if problems else 0,  # noqa: B009
    )


def get_model_id(*, name: str) -> int:
    """A model's id by its name. Raises NotFound. One query."""
    found = Model.objects.filter(name=name).values_list("id", flat=True).first()
    if found is None:
        raise NotFound(
            f"There is no model {name!r}.", fix="Register it in MLflow; it is read within seconds."
        )
    return found


def aliases_of(*, name: str) -> tuple[AliasRow, ...]:
    """Where a model's aliases point, by name. Raises NotFound for an unknown model. Two queries."""
    rows = Alias.objects.filter(model_id=get_model_id(name=name)).order_by("name")
    return tuple(AliasRow(*row) for row in rows.values_list("name", "version__number"))


def page_versions(
    *,
    model_id: int,
    before: int | None = None,
    limit: int = VERSIONS_A_PAGE,
    include_gone: bool = False,
    among: Sequence[int] | None = None,
) -> VersionPage:
    """Versions with a number below `before`, newest first; `among`: only these numbers. Two queries, whatever the
    page."""
    versions = versions_of(model_id=model_id, include_gone=include_gone)
    if before is not None:
        versions = versions.filter(number__lt=before)
    if among is not None:
        versions = versions.filter(number__in=among)
    found = list(versions[: limit + 1])
    rows = tuple(_version_row(version) for version in found[:limit])
    return VersionPage(rows, found[limit - 1].number if len(found) > limit else None)


def count_versions(*, model_id: int, before: int) -> int:
    """How many versions have a number below `before` and were not deleted. One query."""
    return Version.objects.filter(model_id=model_id, gone_at=None, number__lt=before).count()


def newest_launchable(*, model_id: int, besides: int | None = None) -> int | None:
    """The number of the newest version that may be launched and is not `besides` (an id), None without one. One query.

    As `refusal_to_launch` says: a version that may be launched is verified and not deleted."""
    may = Version.objects.filter(model_id=model_id, gone_at=None, manifest_state=ManifestState.VERIFIED)
    if besides is not None:
        may = may.exclude(pk=besides)
    return may.order_by("-number").values_list("number", flat=True).first()


def newest_verified() -> QuerySet[Version]:
    """The versions of all models that may be launched, newest first, without their manifests. One query."""
    may = Version.objects.filter(gone_at=None, manifest_state=ManifestState.VERIFIED)
    return may.select_related("model").defer("manifest", "file_classes").order_by("-created_at", "-pk")


def versions_of(*, model_id: int, include_gone: bool = False) -> QuerySet[Version]:
    """A model's versions, newest first, without their manifests, aliases prefetched. Two queries."""
    versions = (
        Version.objects.filter(model_id=model_id).select_related("model").defer("manifest", "file_classes")
    )
    versions = versions.annotate(**_trouble_of_version())
    if not include_gone:
        versions = versions.filter(gone_at=None)
    return versions.prefetch_related("aliases").order_by("-number")


def get_version(*, model: str, number: int) -> Version:
    """One version, whole, aliases prefetched; also when the store has deleted it. Raises NotFound. Two
    queries.
    """
    found = (
        Version.objects.filter(model__name=model, number=number)
        .annotate(**_trouble_of_version())
        .select_related("model")
        .prefetch_related("aliases")
        .first()
    )
    if found is None:
        raise NotFound(f"The model {model!r} has no version {number}.", fix="Choose one of its versions.")
    return found


def refusal_to_launch(version: Version) -> str:
    """Why a version may not be launched, as a sentence; "" when it may. No query."""
    if version.gone_at is not None:
        return "It was deleted in MLflow."
    if version.manifest_state == ManifestState.VERIFIED:
        return ""
    if version.manifest_problem:
        return version.manifest_problem
    error: str | None = version.__dict__.get("trouble_error")
    return (
        f"Its files could not be read yet: {error}"
        if error
        else "Its files are being read for the first time."
    )


def alias_history(
    *, model_id: int, limit: int = MOVES_SHOWN, before_id: int | None = None
) -> list[AliasMove]:
    """Moves of a model's aliases that happened, newest first, both versions loaded; each with `in_all`, how many there
    are from there on back. One query."""
    moves = moves_of(model_id=model_id)
    if before_id is not None:
        moves = moves.filter(id__lt=before_id)
    return list(moves.annotate(in_all=Window(Count("pk")))[:limit])


def moves_of(*, model_id: int) -> QuerySet[AliasMove]:
    """As `alias_history`, not evaluated yet."""
    moves = AliasMove.objects.filter(model_id=model_id, moved_at__isnull=False)
    return moves.select_related("version", "previous").defer(
        "version__manifest", "version__file_classes", "previous__manifest", "previous__file_classes"
    )


def evaluations_of(*, model_id: int, newest: int = VERSIONS_COMPARED) -> Evaluations:
    """Metrics across the newest versions. One query."""
    versions = tuple(reversed(versions_of(model_id=model_id).prefetch_related(None)[:newest]))
    names = {name for version in versions for name in version.metrics}
    measures = [
        Measure(name, tuple(_number(version.metrics, name) for version in versions)) for name in names
    ]
    measures.sort(key=lambda m: (sum(value is None for value in m.values), m.name))
    return Evaluations(versions, tuple(measures))


def has_pending_manifests(*, now: datetime) -> bool:
    """True when some version waits for its manifest and nobody reads it. One query."""
    unclaimed = free("manifest_claimed_until", now=now, lifetime=CLAIM_LIFETIME)
    return Version.objects.filter(unclaimed, manifest_state=ManifestState.PENDING, gone_at=None).exists()


def has_changed_versions(*, now: datetime) -> bool:
    """True when some version was found changed, and its next check is due. One query."""
    due = Q(manifest_checked_at__isnull=True) | Q(manifest_checked_at__lte=now - CHECKED_AGAIN)
    due |= Q(manifest_checked_at__gt=now + TOLERANCE)
    return Version.objects.filter(due, manifest_state=ManifestState.CHANGED, gone_at=None).exists()


def newest_golden_sets() -> QuerySet[GoldenSet]:
    """The newest revision of every golden set, by name, with its uploader. One query."""
    newer = GoldenSet.objects.filter(name=OuterRef("name"), revision__gt=OuterRef("revision"))
    return GoldenSet.objects.filter(~Exists(newer)).select_related("created_by").order_by("name")


def golden_revisions(*, name: str) -> QuerySet[GoldenSet]:
    """All revisions of one golden set, newest first. One query."""
    return GoldenSet.objects.filter(name=name).select_related("created_by").order_by("-revision")


def get_golden_set(*, name: str, revision: int | None = None) -> GoldenSet:
    """One revision, the newest by default. Raises NotFound. One query."""
    sets = golden_revisions(name=name)
    found = sets.filter(revision=revision).first() if revision is not None else sets.first()
    if found is None:
        wanted = name if revision is None else f"{name}@{revision}"
        raise NotFound(f"There is no golden set {wanted!r}.", fix="Upload it, or choose one that is there.")
    return found


def examples_of(*, golden_set_id: int) -> QuerySet[GoldenExample]:
    """The examples of a revision in their order. One query."""
    return GoldenExample.objects.filter(golden_set_id=golden_set_id).order_by("position")


def _trouble_of(passes: Sequence[str], key: Any) -> dict[str, Subquery]:
    """Why a pass could not do an item, since when, and when it is tried again: `trouble_error`, `trouble_since`,
    `trouble_until`, all None when it could. No query of their own."""
    trouble = ItemTrouble.objects.filter(pass_name__in=passes, item=key).order_by("pass_name")
    return {
        "trouble_error": Subquery(trouble.values("error")[:1]),
        "trouble_since": Subquery(trouble.values("first_failed_at")[:1]),
        "trouble_until": Subquery(trouble.values("next_attempt_at")[:1]),
    }


def _trouble_of_version() -> dict[str, Subquery]:
    return _trouble_of((CHANGED, MANIFESTS, REFUSED, DETAILS), Cast(OuterRef("pk"), CharField()))


def _count(versions: QuerySet[Version]) -> Coalesce:
    # A group that is empty gives no row, not a nought.
    return Coalesce(Subquery(versions.values("model").annotate(n=Count("pk")).values("n")[:1]), 0)


def _aliases_prefetch() -> Prefetch[str, QuerySet[Alias], str]:
    numbered = Alias.objects.annotate(number=F("version__number")).order_by("name")
    return Prefetch("aliases", queryset=numbered)


def _alias_rows(model: Model) -> tuple[AliasRow, ...]:
    return tuple(AliasRow(alias.name, getattr(alias, "number")) for alias in model.aliases.all())  # noqa: B009


def _model_row(model: Model) -> ModelRow:
    counted: Mapping[str, object] = model.__dict__
    newest, at = counted["newest_number"], counted["newest_at"]
    return ModelRow(
        id=model.pk,
        name=model.name,
        description=model.description,
        version_count=int(str(counted["version_count"])),
        changed_count=int(str(counted["changed_count"])),
        newest_number=newest if isinstance(newest, int) else None,
        newest_at=at if isinstance(at, datetime) else None,
        aliases=_alias_rows(model),
        gone_at=model.gone_at,
    )


def _version_row(version: Version) -> VersionRow:
    names: Sequence[str] = [alias.name for alias in version.aliases.all()]
    return VersionRow(version, tuple(names), refusal_to_launch(version))


def _number(metrics: Mapping[str, object], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
