"""The form that makes a server that runs already the baseline of a new endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.kernel.errors import HeadgateError, InvalidInput, NotFound
from registry.selectors import newest_golden_sets, newest_verified
from rollouts import selectors
from rollouts.domain.belongings import Belongings, ModelServer

MOST_SHOWN = 200  # of versions, policies and golden sets to choose from: the newest
FIELDS = ("endpoint", "version", "gate_policy", "golden_set")


@dataclass(frozen=True, slots=True)
class AdoptForm:
    """What was chosen, as it was sent. `version`: "MODEL vNUMBER"."""

    endpoint: str = ""
    version: str = ""
    gate_policy: str = ""
    golden_set: str = ""

    @property
    def chosen_version(self) -> tuple[str, int]:
        """The model's name and the version's number. Raises InvalidInput."""
        model, _, number = self.version.rpartition(" v")
        if not model or not number.isdecimal() or len(number) > 9:
            raise InvalidInput("Choose the version that the server serves.", field="version")
        return model, int(number)


@dataclass(frozen=True, slots=True)
class AdoptPage:
    """`names`: that the server answers to, of which the endpoint takes one. `wrong`: what is wrong, by field."""

    cluster: str
    server: str
    seen: ModelServer
    form: AdoptForm
    names: tuple[str, ...]
    versions: tuple[str, ...]
    gate_policies: tuple[str, ...]
    golden_sets: tuple[str, ...]
    wrong: Mapping[str, str]


def read_form(sent: Mapping[str, str]) -> AdoptForm:
    """The form as a browser sends it."""
    return AdoptForm(**{name: sent.get(name, "").strip() for name in FIELDS})


def build(*, cluster: str, server: str, form: AdoptForm, problem: HeadgateError | None = None) -> AdoptPage:
    """The page. Raises NotFound for a server that was not seen at the last look at the cluster. 4 queries."""
    found = Belongings.from_json(selectors.find_cluster(cluster).belongings)
    servers = {one.where.rpartition(" ")[2]: one for one in (found.servers if found is not None else ())}
    seen = servers.get(server)
    if seen is None:
        raise NotFound(
            f"No server {server!r} was seen on cluster {cluster} that Headgate does not manage.",
            fix="The page of the cluster lists those that there are; it is looked at every five minutes.",
        )
    policies = {row.name: str(row) for row in reversed(selectors.gate_policies()[:MOST_SHOWN])}
    return AdoptPage(
        cluster=cluster,
        server=server,
        seen=seen,
        form=form,
        names=tuple(seen.model.split()),
        versions=tuple(f"{one.model.name} v{one.number}" for one in newest_verified()[:MOST_SHOWN]),
        gate_policies=tuple(sorted(policies.values())),
        golden_sets=tuple(one.name for one in newest_golden_sets()[:MOST_SHOWN]),
        wrong=_wrong(problem),
    )


def _wrong(problem: HeadgateError | None) -> dict[str, str]:
    """Under which field it is shown; what belongs to none is shown above the form."""
    if not isinstance(problem, InvalidInput):
        return {}
    field = "endpoint" if problem.field == "name" else problem.field
    return {field: str(problem)} if field in FIELDS else {}
