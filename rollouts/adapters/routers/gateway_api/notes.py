"""What the router notes at a route with each write, to know later what is in force. Pure.

A split may take several writes (see `steps`), and each makes a new generation of the route. What callers know as the
generation of a split is therefore counted here: it is the route's `metadata.generation` after the last of these writes,
if nothing comes between, and in any case larger than that of the split before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.kernel.digests import canonical_json
from controlplane.kernel.foreign import Fields
from rollouts.ports import FULL_SHARE_BP


@dataclass(frozen=True, slots=True)
class SplitRead:
    """A split: shares of sum 10,000 without those of 0 (empty when there is no split), all variants that a request can
    reach, and its generation."""

    shares: Mapping[str, int] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    generation: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"shares": dict(self.shares), "named": sorted(self.named), "generation": self.generation}

    @classmethod
    def read(cls, said: Fields) -> SplitRead:
        """Raises InvalidInput for what is no split."""
        return cls(
            said.wholes_by_name("shares", least=0, most=FULL_SHARE_BP),
            frozenset(said.texts("named", longest=200)),
            said.whole("generation", 0, least=0),
        )


@dataclass(frozen=True, slots=True)
class WriteNote:
    """What one write was for.

    wanted   the split that the route is to become
    target   digest of the whole route that it is to become
    at       the route's `metadata.generation` by this write, which was at `at_time`, in seconds since the epoch
    last     whether it is the last one on the way
    coming   who is faint in it because he comes
    before   what was in force then
    """

    wanted: SplitRead = field(default_factory=SplitRead)
    target: str = ""
    at: int = 0
    at_time: float = 0.0
    last: bool = True
    coming: frozenset[str] = frozenset()
    before: SplitRead = field(default_factory=SplitRead)

    def text(self) -> str:
        """The annotation that `read` reads back."""
        return canonical_json(
            {
                "wanted": self.wanted.to_json(),
                "target": self.target,
                "at": self.at,
                "atTime": round(self.at_time),
                "last": self.last,
                "coming": sorted(self.coming),
                "before": self.before.to_json(),
            }
        ).decode()

    @classmethod
    def read(cls, said: Fields) -> WriteNote:
        """Raises InvalidInput for what is no such note."""
        return cls(
            wanted=SplitRead.read(said.part("wanted")),
            target=said.text("target", "", longest=200),
            at=said.whole("at", 0, least=0),
            at_time=float(said.whole("atTime", 0, least=0)),
            last=said.flag("last", True),
            coming=frozenset(said.texts("coming", longest=200)),
            before=SplitRead.read(said.part("before")),
        )


def places_note(places: Sequence[str]) -> str:
    """The annotation of which variant has which place."""
    return canonical_json(list(places)).decode()


def with_notes(document: Mapping[str, Any], notes: Mapping[str, str]) -> dict[str, Any]:
    """The document without its status, and with these annotations; an empty one is taken off."""
    metadata = dict(document["metadata"])
    every = {**metadata.get("annotations", {}), **notes}
    metadata["annotations"] = {name: value for name, value in every.items() if value or name not in notes}
    return {**{name: value for name, value in document.items() if name != "status"}, "metadata": metadata}


def metadata_over(found: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Our metadata over what others left there: their labels, annotations and finalizers stay."""
    there, own = found["metadata"], ours["metadata"]
    return {
        **there,
        "labels": {**there.get("labels", {}), **own["labels"]},
        "annotations": {**there.get("annotations", {}), **own["annotations"]},
    }
