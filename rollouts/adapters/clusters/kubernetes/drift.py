"""What somebody else changed of a workload after it was launched, as one sentence. Pure.

Two things say it. The workload as it was written, which the anchor keeps: what differs from it was changed. And the API
server's own note of who set which field last (`managedFields`): it names the hand, and what it added beside ours. What
controllers write into the status or the metadata is no drift, and neither is a count of replicas that an autoscaler
chose.

Words of others are quoted for images and counts only: what somebody types into an argument or a variable may be a
secret.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.client import MANAGER, SCALER, holds
from rollouts.adapters.clusters.kubernetes.pod_reading import part, parts, text

OURS = frozenset({MANAGER, SCALER})
MOST_PARTS = 4  # that a sentence names
SOMEBODY = "somebody whom the cluster does not name"
# What a container has that people change, as they call it; anything else is told by its own name.
OF_CONTAINER = {
    "image": "image",
    "args": "arguments",
    "command": "command",
    "env": "environment",
    "envFrom": "environment",
    "resources": "resources",
}
LEFT_OUT: tuple[object, ...] = ({}, [], "", 0, None)  # what API servers keep nothing of
LISTS_OF_CONTAINERS = ("containers", "initContainers")
OF_PODS = (("spec", "template"), ("spec", "leaderWorkerTemplate"))

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scaled:
    """A count of replicas that somebody set. `by` is a field manager's name."""

    count: int
    asked: int
    by: str

    @property
    def words(self) -> str:
        noun = "replica is" if self.count == 1 else "replicas are"
        return f"{self.count} {noun} asked for instead of {self.asked}"

    @property
    def sentence(self) -> str:
        return f"{self.words} (set by {self.by})."


@dataclass(frozen=True, slots=True)
class HandEdits:
    """What was changed and by whom, as a sentence; empty when nothing was.

    altered     the part of it because of which its pods run something else than what was asked for, as words: not the
                count of replicas, nor notes and labels of its pods
    """

    sentence: str = ""
    altered: str = ""


def drift_of(raw: Mapping[str, Any], written: object, *, replicas: int | None, autoscaled: bool) -> HandEdits:
    """What was changed of a workload.

    raw         the workload as it is
    written     what the anchor keeps of it (`record.workload_in`); anything else: not known, as of an older launch
    replicas    that were asked for; None: not known
    autoscaled  an autoscaler owns the count, and never goes below `replicas`
    """
    changes, altered = _Changes(), _Changes()
    scaled = scaled_by_hand(raw, replicas=replicas, autoscaled=autoscaled)
    if scaled is not None:
        changes.add(scaled.words, [scaled.by])
    foreign = _foreign(raw)
    hands = sorted({by for owned in foreign.values() for by in owned})
    found = set(foreign)
    before = written if isinstance(written, Mapping) else {}
    # Who sets something back owns it from then on, and has changed nothing.
    found = {path for path in found if not _is_as_written(path, raw, before)}
    found |= set(_differing(part(raw, "spec"), part(before, "spec"), ("spec",)))
    for path in sorted(found - {("spec", "replicas")}):
        # Who took something away owns nothing of it.
        who = [by for other, owned in foreign.items() if _meet(other, path) for by in owned]
        alone = hands if len(hands) == 1 else []
        for found_there in (changes, altered) if _runs_otherwise(path) else (changes,):
            found_there.add(_words(path, raw, before), who or alone)
    said = changes.words()
    return HandEdits(f"Changed by hand: {said}." if said else "", altered.words("{parts}, by {names}"))


def scaled_by_hand(raw: Mapping[str, Any], *, replicas: int | None, autoscaled: bool) -> Scaled | None:
    """The count that somebody else than an autoscaler set; None when nobody did, or when it is the one asked for.

    An API server does not note who scales a workload whose count nobody owned before: its generation grows, and that
    is all that tells of it.
    """
    count = part(raw, "spec").get("replicas")
    if (
        replicas is None
        or not isinstance(count, int)
        or count == replicas
        or (autoscaled and count > replicas)
    ):
        return None
    owners = _owners(raw).get(("spec", "replicas"), set())
    generation = part(raw, "metadata").get("generation", 1)
    if not owners and generation == 1:
        return None  # as it was made, with a count that nobody set: ours is set in a moment
    theirs = sorted(owners - OURS)
    return Scaled(count, replicas, words_of(theirs[0]) if theirs else SOMEBODY)


class _Changes:
    """What was changed, each once, with everybody who had a hand in it."""

    def __init__(self) -> None:
        self._found: dict[str, set[str]] = {}

    def add(self, words: str, who: Iterable[str]) -> None:
        self._found.setdefault(words, set()).update(who)

    def words(self, form: str = "{parts} (by {names})") -> str:
        by_hand: dict[str, list[str]] = {}
        for words, who in list(self._found.items())[:MOST_PARTS]:
            names = " and ".join(sorted(words_of(one) for one in who)) or SOMEBODY
            by_hand.setdefault(names, []).append(words)
        if not by_hand:
            return ""
        more = len(self._found) - MOST_PARTS
        rest = f"; and {more} more" if more > 0 else ""
        said = "; ".join(form.format(parts=", ".join(found), names=names) for names, found in by_hand.items())
        return f"{said}{rest}"


# --- who owns what ----------------------------------------------------------------------------------------------------


def _foreign(raw: Mapping[str, Any]) -> dict[Path, set[str]]:
    """What others than we set of the spec, and we do not, by field: with whom."""
    return {path: owners for path, owners in _owners(raw).items() if not owners & OURS}


def _owners(raw: Mapping[str, Any]) -> dict[Path, set[str]]:
    """Every field of the spec that somebody set, with whoever did. What the status says is nobody's change."""
    found: dict[Path, set[str]] = {}
    for entry in parts(part(raw, "metadata"), "managedFields"):
        if text(entry, "subresource") not in ("", "scale"):
            continue
        for path in _leaves(part(part(entry, "fieldsV1"), "f:spec"), ("spec",)):
            found.setdefault(path, set()).add(text(entry, "manager"))
    return found


def _leaves(fields: Mapping[str, Any], path: Path) -> Iterator[Path]:
    """The fields of a set as the API server writes it: `f:image`, `k:{"name":"engine"}`, `.` for the thing itself."""
    inner = {name: value for name, value in fields.items() if name != "." and isinstance(value, Mapping)}
    if not inner and path != ("spec",):
        yield path
    for name, value in inner.items():
        yield from _leaves(value, (*path, _element(name)))


def _element(name: str) -> str:
    kind, _, rest = name.partition(":")
    if kind == "f":
        return rest
    try:
        key = json.loads(rest)
    except ValueError:
        return name
    named = key.get("name") if isinstance(key, dict) else None
    return named if isinstance(named, str) else name


# --- what differs -----------------------------------------------------------------------------------------------------


def _differing(seen: object, wanted: object, path: Path) -> Iterator[Path]:
    """The fields of what was written that are otherwise now, as deep as they have names. What others added to a list
    with names is told by who owns it: a cluster adds defaults, too."""
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        for name, value in wanted.items():
            if name in seen or value not in LEFT_OUT:
                yield from _differing(seen.get(name), value, (*path, str(name)))
        return
    named, there = _by_name(wanted), _by_name(seen)
    if named is not None and there is not None:
        for name, value in named.items():
            yield from _differing(there.get(name), value, (*path, name))
        return
    if not holds(seen, wanted):
        yield path


def _is_as_written(path: Path, raw: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    wanted = _at(before, path)
    return wanted is not None and holds(_at(raw, path), wanted)


def _by_name(value: object) -> dict[str, Any] | None:
    """A list whose entries have names of their own, by name; None of anything else."""
    if not isinstance(value, list) or not value:
        return None
    names = [text(one, "name") if isinstance(one, Mapping) else "" for one in value]
    return dict(zip(names, value, strict=True)) if all(names) and len(set(names)) == len(names) else None


def _runs_otherwise(path: Path) -> bool:
    """Whether pods with another value of this field run something else. What is noted at pods is read by others."""
    return path[:2] in OF_PODS and "metadata" not in path[2:4]


def _meet(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


# --- words ------------------------------------------------------------------------------------------------------------


def _words(path: Path, raw: Mapping[str, Any], written: Mapping[str, Any]) -> str:
    """What a field is to people. A path may come from the cluster: what is quoted of it are names."""
    lists = [index for index, name in enumerate(path) if name in LISTS_OF_CONTAINERS]
    if lists and len(path) > lists[0] + 1:
        container, *field = path[lists[0] + 1 :]
        name = words_of(container)
        if not field:
            return f"the container {name}"
        if field[0] == "image":
            now, before = _image(raw, path), _image(written, path)
            return f"the image of {name} is {now}" + (f", launched was {before}" if before else "")
        return f"the {OF_CONTAINER.get(field[0]) or words_of(field[0])} of {name}"
    for place in ("metadata", "spec"):
        rest = path[path.index(place, 1) + 1 :] if place in path[1:] else ()
        if rest:
            return f"{words_of(': '.join(rest[:2]) if place == 'metadata' else rest[0])} of its pods"
    return f"its {words_of(path[1] if len(path) > 1 else path[0])}"


def _image(body: Mapping[str, Any], path: Path) -> str:
    found = _at(body, path)
    return words_of(found, 160) if isinstance(found, str) else ""


def _at(body: Mapping[str, Any], path: Path) -> Any:
    """What stands in a field; None where there is no such field."""
    found: Any = body
    for name in path:
        if isinstance(found, list):
            found = (_by_name(found) or {}).get(name)
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found
