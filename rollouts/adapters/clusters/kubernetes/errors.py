"""What an API server's refusal means: one of five classes, each with what may be done about it.

    Drift      somebody else owns the field (409, FieldManagerConflict): a person decides; nobody fights over it
    Stale      the object changed since it was read (409): read it again
    Denied     the role lacks a verb (403): the sentence names it
    Terminal   it will be refused again (400, 422, a field that the API does not know, which comes as a 500)
    Transient  it may work later (429, 5xx, a quota that is used up, nobody answers, credentials that ran out)

Each is an error of Headgate's own tree, so that nobody above this package needs to know them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.errors import Conflict, HeadgateError, InvalidInput, Rejected, Unavailable
from controlplane.kernel.foreign import Fields, parsed, words_of

FORBIDDEN_VERB = re.compile(
    r'cannot (?P<verb>[a-z]+) resource "(?P<resource>[^"]{1,200})" in API group "(?P<group>[^"]{0,200})"'
    r'(?: in the namespace "(?P<namespace>[^"]{1,63})")?'
)
UNKNOWN_FIELD = re.compile(r"not declared in schema|unknown field|failed to create typed patch object")
QUOTA = re.compile(r"exceeded quota")
TOO_LARGE = re.compile(r"Too large resource version", re.IGNORECASE)
FIELD_CONFLICT = "FieldManagerConflict"
TERMINATING = "NamespaceTerminating"
NAMESPACES = (
    "namespaces"  # what a 404 names as the kind when the object's namespace is missing, and not the object
)


class Drift(Conflict):
    """Somebody else owns a field that we set. `fields` are those fields, `managers` who owns them."""

    code = "drift"

    def __init__(self, message: str, *, fields: tuple[str, ...] = (), managers: tuple[str, ...] = ()) -> None:
        fix = "Give the fields back, or take the object out of Headgate's hands."
        super().__init__(message, fix=fix, extra={"fields": list(fields), "managers": list(managers)})
        self.fields, self.managers = fields, managers


class Stale(Conflict):
    """The object is not as it was when it was read. Nothing was written."""

    code = "stale-object"


class Denied(Rejected):
    """Headgate's role lacks a verb."""

    code = "denied"


class Terminal(Rejected):
    """The API server will say no again until something is mended."""

    code = "terminal"


class Transient(Unavailable):
    """The same call may work later."""

    code = "transient"


class Expired(Transient):
    """A watch begins too far in the past (410), or after all that there is, as it does when the cluster was restored
    from a backup: list again."""

    code = "watch-expired"


class Missing(Terminal):
    """There is no such object."""

    code = "no-such-object"


class NamespaceMissing(Terminal):
    """The namespace in which something was to be made is not there."""

    code = "no-namespace"


class NamespaceEnds(Terminal):
    """The namespace in which something was to be made is being deleted."""

    code = "namespace-terminating"


class UnknownKind(Terminal):
    """The API server does not serve this kind of objects."""

    code = "no-such-kind"


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, for the sentence of an error: "patch of Deployment chat-v7 in team-a"."""

    verb: str
    kind: str
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else "s"
        return f"{self.verb} of {self.kind}{name}" + (f" in {self.namespace}" if self.namespace else "")


def refusal(call: Call, status: int, body: bytes) -> HeadgateError:
    """The error that an answer with this status code means."""
    said = _said(body)
    words = said.message or f"HTTP {status}"
    head = f"The cluster refused the {call}: {words}"
    if status == 401:
        fix = "Replace the credentials in the cluster's secret file; they are read again."
        return Transient(f"The cluster does not know who Headgate is ({call}).", fix=fix, code="credentials")
    if status == 403:
        return _forbidden(call, head, said)
    if status == 404:
        if said.kind == NAMESPACES and call.kind != "Namespace":
            namespace = words_of(said.name, 63) or call.namespace
            missing = f"There is no namespace {namespace} in the cluster ({call})."
            return NamespaceMissing(missing, fix=namespace_fix(namespace))
        if said.name or call.name == "":
            kind = UnknownKind if not said.name else Missing
            return kind(head, fix=_FIXES[kind])
        return UnknownKind(head, fix=_FIXES[UnknownKind])
    if status == 409:
        if said.conflicts:
            owners = ", ".join(said.managers) or "somebody else"
            text = f"Others changed {call.kind} {call.name}: {', '.join(said.conflicts)} belong to {owners}."
            return Drift(text, fields=said.conflicts, managers=said.managers)
        return Stale(head, fix="It is read again.")
    if status == 410 or TOO_LARGE.search(words):
        return Expired(head, fix="It is listed again.")
    if UNKNOWN_FIELD.search(words):
        return Terminal(head, fix="Install the version of the API that knows this field.")
    if status == 429 or status >= 500:
        return Transient(head, fix="It is tried again.")
    return Terminal(head, fix="Mend what the cluster names.")


def silence(call: Call, error: Exception) -> Transient:
    """The error for a server that did not answer, or not to the end."""
    what = f"{type(error).__name__}: {words_of(str(error), 200)}"
    return Transient(f"The cluster did not answer the {call}: {what}.", fix="It is tried again.")


def namespace_fix(namespace: str) -> str:
    """What an operator does about a namespace that is gone: its bindings went with it."""
    return f"Create the namespace {namespace}, and bind Headgate's role (deploy/kubernetes/role.yaml) in it."


_FIXES: Mapping[type[Terminal], str] = {
    Missing: "It is made again where it is needed.",
    UnknownKind: "Install what brings this kind, or leave it out of the cluster's profile.",
}


@dataclass(frozen=True, slots=True)
class _Said:
    message: str = ""
    reason: str = ""
    name: str = ""
    kind: str = ""
    conflicts: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()


def _said(body: bytes) -> _Said:
    """What a Status object says; whatever is odd in it is left out."""
    try:
        raw = Fields(parsed(body), "The cluster's answer")
        details = raw.part("details")
        conflicts, managers, causes = [], [], []
        for cause in details.parts("causes"):
            causes.append(cause.text("reason", ""))
            if causes[-1] == FIELD_CONFLICT:
                conflicts.append(words_of(cause.text("field", "?"), 200))
                found = re.search(r'conflict with "([^"]{1,128})"', cause.text("message", ""))
                managers += [found[1]] if found else []
        return _Said(
            words_of(raw.text("message", "")),
            raw.text("reason", ""),
            details.text("name", ""),
            details.text("kind", ""),
            tuple(conflicts),
            tuple(dict.fromkeys(managers)),
            tuple(causes),
        )
    except InvalidInput:
        return _Said(words_of(body))


def _forbidden(call: Call, head: str, said: _Said) -> HeadgateError:
    if QUOTA.search(said.message):
        fix = "It is tried again. Free some of the quota, or have it raised."
        return Transient(head, fix=fix, code="quota")
    if TERMINATING in said.causes:
        fix = f"The namespace is being deleted. Once it is gone: {namespace_fix(call.namespace)}"
        return NamespaceEnds(head, fix=fix)
    found = FORBIDDEN_VERB.search(said.message)
    if found is None:
        return Terminal(head, fix="A rule of the cluster forbids it: ask who runs it.")
    resource = f"{found['resource']}.{found['group']}" if found["group"] else found["resource"]
    where = f" in the namespace {found['namespace']}" if found["namespace"] else ""
    # A binding goes with its namespace, and a cluster says the same of one that is not there.
    bound = f" If the namespace {found['namespace']} was made anew, or is gone: create it and bind the role in it."
    return Denied(
        f"Headgate's role lacks the verb {found['verb']} of {resource}{where}; it was needed for the {call}.",
        fix=f"Add {found['verb']} of {resource} to the role." + (bound if where else ""),
        extra={"verb": found["verb"], "resource": resource},
    )


def said_in(event: Mapping[str, Any], call: Call) -> HeadgateError:
    """The error that a watch tells by an event of the type ERROR."""
    code = event.get("code")
    return refusal(
        call,
        code if isinstance(code, int) else 500,
        words_of(str(event.get("message", ""))).encode(),
    )
