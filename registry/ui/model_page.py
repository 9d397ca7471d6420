"""One model as plain values: versions, where the chosen one comes from, aliases, how versions score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.kernel.errors import NotFound
from controlplane.kernel.words import bytes_text, count_text, duration_of_seconds, number_text
from registry import selectors
from registry.domain.manifest import ManifestEntry
from registry.models import AliasMove, ManifestState, Model, Version
from registry.selectors import Evaluations, MirrorHealth, ModelDetail

FILES_SHOWN = 40
DATASETS_SHOWN = 2
PARAMETERS_SHOWN = 12
MEASURES_SHOWN = 6

MANIFEST_PILLS = {
    "verified": ("pass", "Verified", "circle-check"),
    "pending": ("mute", "Being read", "hourglass"),
    "changed": ("fail", "Changed", "circle-x"),
    "failed": ("fail", "Refused", "circle-x"),
}


@dataclass(frozen=True, slots=True)
class VersionLine:
    """A line of the table. `refusal` says why it may not be launched, empty when it may."""

    version: Version
    hint: str
    aliases: tuple[str, ...]
    score: str
    score_percent: float | None
    tone: str
    state: str
    icon: str
    refusal: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class FileLine:
    """A file of the manifest, and what it is; `refused`: it is not data."""

    entry: ManifestEntry
    kind: str
    refused: bool


@dataclass(frozen=True, slots=True)
class MeasureLine:
    name: str
    values: tuple[float | None, ...]
    now: str


@dataclass(frozen=True, slots=True)
class TroubleWords:
    """Why something cannot be read, and since when; when it is tried again."""

    error: str
    again: str


@dataclass(frozen=True, slots=True)
class VersionProblem:
    """A band for one version that needs somebody, or cannot be read yet."""

    version: Version
    tone: str
    icon: str
    strong: str
    detail: str
    then: str


@dataclass(frozen=True, slots=True)
class ModelPage:
    """`chosen` is the version whose lineage and files are shown, None for a model without versions.

    What begins with `more_` says how many of a list are not shown.
    """

    detail: ModelDetail
    model_trouble: TroubleWords | None
    problems: tuple[VersionProblem, ...]
    more_problems: int
    mirror: MirrorHealth
    mirror_words: str
    versions: tuple[VersionLine, ...]
    next_before: int | None
    score_name: str
    chosen: Version | None
    chosen_files: tuple[FileLine, ...]
    more_files: int
    chosen_datasets: tuple[Mapping[str, Any], ...]
    more_datasets: int
    findings: tuple[str, ...]
    files_words: str
    size_words: str
    parameters: tuple[tuple[str, str], ...]
    more_parameters: int
    moves: tuple[AliasMove, ...]
    more_moves: int
    scores: tuple[tuple[str, float], ...]
    scores_words: str
    measures: tuple[MeasureLine, ...]
    more_measures: int
    span: str
    start_refused: str
    newest_launchable: int | None
    now: datetime


def build(*, name: str, version: int | None, before: int | None, user: User, now: datetime) -> ModelPage:
    """Everything the page shows. Raises NotFound for a model or a version that does not exist."""
    detail = selectors.get_model(name=name)
    listed = selectors.page_versions(model_id=detail.model.pk, before=before)
    evaluations = selectors.evaluations_of(model_id=detail.model.pk)
    chosen = _chosen(detail, version)
    mirror = selectors.mirror_health(now=now)
    score = evaluations.measures[0].name if evaluations.measures else ""
    # What is not data first: it must not be among what is cut off.
    files = sorted((chosen.files or ()) if chosen else (), key=lambda file: not file["why"])
    parameters = tuple(sorted(chosen.params.items())) if chosen else ()
    moves = selectors.alias_history(model_id=detail.model.pk)
    lines = tuple(
        _line(row.version, row.aliases, row.refusal, score, evaluations, chosen) for row in listed.rows
    )
    scores = (
        tuple(
            (v.label, value)
            for v, value in zip(evaluations.versions, evaluations.measures[0].values, strict=True)
            if value is not None
        )
        if evaluations.measures
        else ()
    )
    labels = [v.label for v in evaluations.versions]
    return ModelPage(
        detail=detail,
        model_trouble=_trouble(detail.model, now),
        problems=tuple(_problem(version, now) for version in detail.problems),
        more_problems=detail.problem_count - len(detail.problems),
        mirror=mirror,
        mirror_words=_mirror_words(mirror),
        versions=lines,
        next_before=listed.next_before,
        score_name=score.replace("_", " "),
        chosen=chosen,
        chosen_files=_file_lines(files[:FILES_SHOWN]),
        more_files=_more(files, FILES_SHOWN),
        chosen_datasets=tuple(chosen.datasets[:DATASETS_SHOWN]) if chosen else (),
        more_datasets=_more(chosen.datasets, DATASETS_SHOWN) if chosen else 0,
        findings=chosen.findings if chosen else (),
        files_words=count_text(len(files), "file"),
        size_words=bytes_text(chosen.manifest_bytes) if chosen else "",
        parameters=parameters[:PARAMETERS_SHOWN],
        more_parameters=_more(parameters, PARAMETERS_SHOWN),
        moves=tuple(moves),
        more_moves=getattr(moves[0], "in_all") - len(moves) if moves else 0,  # noqa: B009
        scores=scores,
        scores_words=f"{score} by version: " + ", ".join(f"{label} {value:.3g}" for label, value in scores),
        measures=tuple(
            MeasureLine(m.name.replace("_", " "), m.values, number_text(m.values[-1]))
            for m in evaluations.measures[:MEASURES_SHOWN]
        ),
        more_measures=_more(evaluations.measures, MEASURES_SHOWN),
        span=f"{labels[0]} to {labels[-1]}" if len(labels) > 1 else "".join(labels),
        start_refused=refusal(user.role, Action.START_ROLLOUT),
        newest_launchable=selectors.newest_launchable(model_id=detail.model.pk),
        now=now,
    )


def _more(every: Sized, shown: int) -> int:
    return max(len(every) - shown, 0)


def _file_lines(files: Sequence[Mapping[str, Any]]) -> tuple[FileLine, ...]:
    return tuple(
        FileLine(
            ManifestEntry(file["path"], file["size"], file["sha256"]),
            file["kind"] or "not checked yet",
            bool(file["why"]),
        )
        for file in files
    )


def _problem(version: Version, now: datetime) -> VersionProblem:
    refused = "A launch of it, or a rollback to it, is refused"
    changed = f"{refused} until its files are as they were registered."
    trouble = _trouble(version, now)
    if version.manifest_state == ManifestState.CHANGED:
        strong = f"{version.label} is no longer what was registered."
        return VersionProblem(version, "fail", "circle-x", strong, version.manifest_problem, changed)
    if version.manifest_state == ManifestState.FAILED or trouble is None:
        strong = f"{version.label} may not be served."
        return VersionProblem(version, "fail", "circle-x", strong, version.manifest_problem, f"{refused}.")
    strong = f"{version.label} cannot be read."
    return VersionProblem(version, "warn", "circle-alert", strong, trouble.error, trouble.again)


def _trouble(row: Model | Version, now: datetime) -> TroubleWords | None:
    """What the selectors read beside the row; None when all is well."""
    error: str | None = row.__dict__.get("trouble_error")
    since: datetime | None = row.__dict__.get("trouble_since")
    until: datetime | None = row.__dict__.get("trouble_until")
    if error is None or since is None or until is None:
        return None
    again = f"at {until:%H:%M:%S} UTC" if until > now else "within seconds"
    return TroubleWords(error, f"Since {since:%Y-%m-%d %H:%M} UTC; it is tried again {again}.")


def _chosen(detail: ModelDetail, number: int | None) -> Version | None:
    if number is not None:
        return selectors.get_version(model=detail.model.name, number=number)
    if detail.newest is None:
        return None
    try:
        return selectors.get_version(model=detail.model.name, number=detail.newest.number)
    except NotFound:
        return None  # Deleted in the store between two reads.


def _line(
    version: Version,
    aliases: tuple[str, ...],
    refusal_words: str,
    score: str,
    evaluations: Evaluations,
    chosen: Version | None,
) -> VersionLine:
    tone, state, icon = MANIFEST_PILLS.get(
        version.manifest_state, ("mute", version.manifest_state, "circle-dashed")
    )
    if version.manifest_state == ManifestState.PENDING and version.__dict__.get("trouble_error"):
        tone, state, icon = "warn", "Cannot be read", "circle-alert"
    value = version.metrics.get(score) if score else None
    number = float(value) if isinstance(value, int | float) else None
    return VersionLine(
        version=version,
        hint=version.run_name or version.description or version.status.lower(),
        aliases=aliases,
        score=number_text(number) if number is not None else "",
        score_percent=_percent(number, evaluations),
        tone=tone,
        state=state,
        icon=icon,
        refusal=refusal_words,
        chosen=chosen is not None and version.pk == chosen.pk,
    )


def _percent(value: float | None, evaluations: Evaluations) -> float | None:
    """Where the value lies between nothing and the best known one; only for measures from 0 up."""
    known = [v for v in evaluations.measures[0].values if v is not None] if evaluations.measures else []
    if value is None or not known or min(known) < 0 or max(known) <= 0:
        return None
    return 100 * min(1.0, max(0.0, value / max(known)))


def _mirror_words(mirror: MirrorHealth) -> str:
    if mirror.age_seconds is None:
        return "not read yet"
    # A mirror that is read every few seconds should not make the page read differently each time.
    return (
        "read just now" if mirror.age_seconds < 60 else f"read {duration_of_seconds(mirror.age_seconds)} ago"
    )
