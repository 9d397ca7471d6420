"""The tree of errors that Headgate raises on purpose.

    HeadgateError
    |-- InvalidInput          a value is wrong; `field` names it                       (HTTP 400/422)
    |   `-- Unreadable            no database could hold it, whatever it means         (400)
    |-- NotFound              what was named does not exist                            (404)
    |-- Forbidden             the actor may not do this; the message names the role    (403)
    |-- Conflict              the thing changed, or its state does not allow this      (409)
    |   |-- IllegalTransition     an event that the state table does not know
    |   `-- StaleWriter           a worker lost its lease; its fencing token is old
    |-- Refused               policy says no (tampered file, global stop, checks fail) (422)
    |   `-- TamperedFile          a file differs from the manifest; `path` names it
    |-- TooMany               so much of the caller is under way that no more is taken (429)
    `-- Unavailable           a part, or the database, did not answer; retry later     (503)
        `-- Rejected              it answered, and said no (bad configuration); retrying will not help (502)

Every message says what happened, where, and how to fix it. The web and the API map this tree to pages and to
problem+json in exactly one place each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HeadgateError(Exception):
    """Base of all errors raised on purpose.

    `code` is stable and machine-readable (kebab-case); `message` is for people; `fix` says what to do about it;
    `extra` carries plain JSON values that help a client (for example the two neighbouring bucket edges).
    """

    code = "error"

    def __init__(
        self, message: str, *, fix: str = "", code: str | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.extra: dict[str, Any] = dict(extra or {})
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.fix}".strip()


class InvalidInput(HeadgateError):
    """A value is wrong. `field` is the dotted name of the value, as the API and the form call it."""

    code = "invalid-input"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        fix: str = "",
        code: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, fix=fix, code=code, extra=extra)
        self.field = field


class Unreadable(InvalidInput):
    """A value that cannot be looked at for its meaning: no text, no number in range, nested or long without end."""

    code = "unreadable-input"


class NotFound(HeadgateError):
    """What was named does not exist (or may not be seen)."""

    code = "not-found"


class Forbidden(HeadgateError):
    """The actor may not do this; the message names the role that may."""

    code = "forbidden"


class Conflict(HeadgateError):
    """The thing changed meanwhile, or its state does not allow the request."""

    code = "conflict"


class IllegalTransition(Conflict):
    """The state table has no entry for this event in this state."""

    code = "illegal-transition"

    def __init__(self, state: str, event: str, allowed: tuple[str, ...]) -> None:
        what = ", ".join(allowed) if allowed else "nothing: this state is final"
        super().__init__(f"'{event}' is not possible while {state}.", fix=f"Possible now: {what}.")
        self.state, self.event, self.allowed = state, event, allowed


class StaleWriter(Conflict):
    """A worker tried to write with a fencing token that is no longer the newest. Nothing was written."""

    code = "stale-writer"


class Refused(HeadgateError):
    """The request was understood and is refused by policy."""

    code = "refused"


class TamperedFile(Refused):
    """A file of a version is missing or differs from the manifest taken at registration."""

    code = "tampered-file"

    def __init__(self, path: str, detail: str, *, fix: str = "") -> None:
        super().__init__(
            f"The file {path} {detail}.",
            fix=fix or "Restore the file as it was registered, or register a new version.",
            extra={"path": path},
        )
        self.path = path


class TooMany(HeadgateError):
    """So much of the caller is under way that no more is taken. Nothing was changed; the same call may work after
    `wait_seconds`."""

    code = "too-many"

    def __init__(
        self, message: str, *, fix: str = "", code: str | None = None, wait_seconds: int = 60
    ) -> None:
        super().__init__(message, fix=fix, code=code)
        self.wait_seconds = wait_seconds


class Unavailable(HeadgateError):
    """A part of the outside world did not answer. Nothing was changed; the same call may work later."""

    code = "unavailable"


class Rejected(Unavailable):
    """The outside world answered and said no; the same call will fail again until the cause is mended."""

    code = "rejected"
