"""What MLflow says about an endpoint now; "written" is said only when it was read back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.timekeeping.claims import has_run_out
from registry.services.aliases import INTENT_LIFETIME
from rollouts.models import Endpoint, Rollout

JUST_NOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class MlflowNow:
    """`short` says where the alias points, as last read. `strong` and `detail` are empty while all is well."""

    short: str
    tone: str
    strong: str = ""
    detail: str = ""


def mlflow_now(endpoint: Endpoint, found: Endpoint | Rollout, now: datetime) -> MlflowNow:
    """`found` is the row that `selectors.endpoints` or `selectors.rollouts` read, with what they know of MLflow."""
    number: int | None = found.__dict__.get("alias_number")
    where = f"{endpoint.alias} → v{number}" if number is not None else f"no alias {endpoint.alias}"
    short = f"{where}, {_read(found, now)}"
    stable = endpoint.stable
    if stable is None or not endpoint.desired_shares:
        return MlflowNow(short, "mute")
    version, model = stable.version, endpoint.model
    if model.gone_at is not None:
        return MlflowNow(
            short,
            "fail",
            f"The model {model.name} was deleted in MLflow.",
            f"{version.label} goes on serving from its verified files on this machine; new versions of the model are "
            f"not seen. {model.gone_why}".strip(),
        )
    if version.gone_at is not None:
        return MlflowNow(
            short,
            "fail",
            f"{version.label} was deleted in MLflow while it serves.",
            "It goes on serving from its verified files on this machine. No alias can point to it there.",
        )
    if number == version.number:
        return _under_way(short, found, now) or MlflowNow(short, "pass")
    return MlflowNow(
        short,
        "warn",
        f"MLflow says otherwise: {where}, while {version.label} serves.",
        _trouble(found, now) or "It is written within seconds.",
    )


def _under_way(short: str, found: Endpoint | Rollout, now: datetime) -> MlflowNow | None:
    """MLflow was read to have what serves, but a request for something else was never answered."""
    number: int | None = found.__dict__.get("asked_number")
    at: datetime | None = found.__dict__.get("asked_at")
    if number is None or at is None or has_run_out(at, now=now, lifetime=INTENT_LIFETIME):
        return None
    return MlflowNow(
        short,
        "warn",
        f"An earlier write of v{number} has not ended.",
        f"It was begun at {moment_text(at, now)} and may still arrive in MLflow. What MLflow has is read every few "
        "seconds, and put right.",
    )


def _trouble(found: Endpoint | Rollout, now: datetime) -> str:
    """Why it could not be written yet, since when, and when it is tried again."""
    error: str | None = found.__dict__.get("untold_error")
    since: datetime | None = found.__dict__.get("untold_since")
    until: datetime | None = found.__dict__.get("untold_until")
    if error is None or since is None or until is None:
        return ""
    again = f"at {moment_text(until, now)}" if until > now else "within seconds"
    return f"Writing it has failed since {moment_text(since, now)} and is tried again {again}: {error}"


def _read(found: Endpoint | Rollout, now: datetime) -> str:
    at: datetime | None = found.__dict__.get("alias_read_at")
    if at is None:
        return "not read yet"
    # A mirror that is read every few seconds should not make the page read differently each time.
    return (
        "read just now" if (now - at).total_seconds() < JUST_NOW_SECONDS else f"read {moment_text(at, now)}"
    )


def moment_text(at: datetime, now: datetime) -> str:
    """A moment, not a distance: a page at rest reads the same."""
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"
