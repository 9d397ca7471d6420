"""An error's own words, fit to be kept and shown: one paragraph, bounded, without secrets."""

from __future__ import annotations

import re
import traceback

from controlplane.kernel.credentials import HIDDEN, hide
from controlplane.kernel.errors import HeadgateError
from controlplane.sealing.known import known

LONGEST = 500
# More than what is hidden everywhere (controlplane.kernel.credentials), because an error can spare more words:
# user:password@ of an address; the value behind a word that names a secret; a scheme of authentication.
_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@]+@"), f"{HIDDEN}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(r"(?i)([\w-]*(?:password|passwd|secret|token|api[_-]?key|signature|credential)[\w-]*"
                   r"[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&]+)"),
        rf"\1{HIDDEN}",
    ),
)  # fmt: skip


def error_words(error: BaseException) -> str:
    """What happened, for people. An error that nobody raised on purpose is named by its class too."""
    text = str(error).strip()
    if not isinstance(error, HeadgateError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return in_one_paragraph(text)


def odd_words(what: str, error: BaseException) -> str:
    """What to say of a thing whose stored values are odd. `what`: as people call it, such as "rollout #7"."""
    return f"What is stored of {what} cannot be read: {error_words(error)}"


def in_one_paragraph(text: str) -> str:
    """The text in one paragraph of at most LONGEST characters that every database takes, without secrets."""
    plain = "".join(character if character.isprintable() else " " for character in without_secrets(text))
    plain = " ".join(plain.split())
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"


def without_secrets(text: str) -> str:
    """The text with passwords, tokens and the like hidden."""
    text = hide(text, known())
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def traceback_words(error: BaseException) -> str:
    """The traceback for the log, without secrets."""
    return without_secrets("".join(traceback.format_exception(error))).rstrip()
