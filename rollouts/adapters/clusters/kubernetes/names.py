"""Names, labels and annotations of everything that we write into a cluster.

Endpoints and variants may have names that Kubernetes does not take. Their objects are then named by a cut form with a
digest behind it; the real name stands in an annotation. Two names never become one.
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


def _with_digest(kept: str, name: str, longest: int) -> str:
    digest = hashlib.sha256(name.encode("utf-8", errors="surrogatepass")).hexdigest()[:DIGITS]
    room = longest - DIGITS - len(_MARK) - 1
    return f"{kept[:room].rstrip('-_.') or 'v'}-{_MARK}{digest}"
