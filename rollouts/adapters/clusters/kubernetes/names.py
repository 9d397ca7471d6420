"""Names, labels and annotations of everything that we write into a cluster.

Endpoints and variants may have names that Kubernetes does not take. Their objects are then named by a cut form with a
digest behind it; the real name stands in an annotation. Two names never become one.

How long a name may be does not change: objects that run are found again by it. A shorter limit would rename those of
variants that run, and whoever looks for them by the new name would start them once more. So what needs a shorter name
than `LONGEST_NAME` is refused (`longest_group_name`), and what Kubernetes cuts is read as it is cut (`pods_pattern`).
"""

from __future__ import annotations

import hashlib
import re

PREFIX = "headgate.dev/"
MANAGED_BY = "headgate"

INSTALLATION = f"{PREFIX}installation"  # label: whose the object is
ENDPOINT = f"{PREFIX}endpoint"  # label: cut where it must be
VARIANT = f"{PREFIX}variant"  # label: the name of the variant's objects
FILL = f"{PREFIX}fill"  # label: the name of the objects that fill a volume for one launch
ENDPOINT_NAME = f"{PREFIX}endpoint-name"  # annotation: the endpoint as Headgate calls it
VARIANT_NAME = f"{PREFIX}variant-name"  # annotation: the variant as Headgate calls it
SPEC_DIGEST = f"{PREFIX}spec-digest"  # annotation: of what was written, so that drift is seen

# A Service takes 63 characters. KEDA puts "keda-hpa-" before the name and uses that as a label, which takes 63 too.
LONGEST_NAME = 52
LONGEST_LABEL = 63
DIGITS = 10
# How Kubernetes names pods: OBJECT-HASH-RANDOM. What stands before RANDOM is cut where it is too long for both.
LONGEST_POD_NAME = 63
RANDOM_LENGTH = 5
LONGEST_HASH = 10  # a number of 32 bits, a letter or digit for each of its decimal places
_SAFE = "bcdfghjklmnpqrstvwxz2456789"  # of which hashes and RANDOM are made
_MARK = "x"
_NAME = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_OURS = re.compile(rf"-{_MARK}[0-9a-f]{{{DIGITS}}}$")  # such a name could be that of another one's digest


def object_name(variant: str) -> str:
    """The name of a variant's objects: its own where Kubernetes takes it, else a cut form with a digest."""
    if len(variant) <= LONGEST_NAME and _NAME.fullmatch(variant) and not _OURS.search(variant):
        return variant
    kept = re.sub(r"[^a-z0-9]+", "-", variant.lower()).lstrip("-0123456789")
    return _with_digest(kept or "v", variant, LONGEST_NAME)


def label_value(name: str) -> str:
    """The name as the value of a label."""
    if len(name) <= LONGEST_LABEL and _LABEL.fullmatch(name) and not _OURS.search(name):
        return name
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("-_.")
    return _with_digest(kept or "v", name, LONGEST_LABEL)


def pods_pattern(name: str) -> str:
    """A regular expression, to be matched whole, of the names of all pods of the variant whose objects have this name.

    Pods of a Deployment are `NAME-HASH-RANDOM`. From 47 characters of the name on that may be more than 63 together.
    Kubernetes then cuts the hash and the dash behind it, so that the name has 63 characters: `NAME-HASHRANDOM`. Pods of
    a group of several nodes are `NAME-0`, its leader, and `NAME-0-1`.

    No pod of another variant or of a Job matches, also where its name begins alike: after this name and a dash there
    is another dash, or a part that is longer than a hash. Only a group's worker `NAME-0-1` could be the leader of a
    variant `NAME-0`; no variant's name ends like that (`rollouts.domain.variants`).
    """
    kinds = [f"[a-z0-9]{{1,{LONGEST_HASH}}}-[a-z0-9]{{{RANDOM_LENGTH}}}", "[0-9]{1,3}(-[0-9]{1,3})?"]
    left = LONGEST_POD_NAME - len(f"{name}-")
    if left < LONGEST_HASH + len("-") + RANDOM_LENGTH:
        kinds.append(f"[{_SAFE}]{{{left}}}")
    return f"{name}-({'|'.join(kinds)})"


def longest_group_name(replicas: int) -> int:
    """How long the name of a LeaderWorkerSet may be that has so many replicas at most.

    The workers of a replica are a StatefulSet `NAME-INDEX`, whose pods have a label `NAME-INDEX-HASH`: in a name that
    is longer they would never be made.
    """
    return LONGEST_LABEL - len(f"-{max(replicas, 1) - 1}") - len("-") - LONGEST_HASH


def _with_digest(kept: str, name: str, longest: int) -> str:
    digest = hashlib.sha256(name.encode("utf-8", errors="surrogatepass")).hexdigest()[:DIGITS]
    room = longest - DIGITS - len(_MARK) - 1
    return f"{kept[:room].rstrip('-_.') or 'v'}-{_MARK}{digest}"
