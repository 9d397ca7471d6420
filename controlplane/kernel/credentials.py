"""What looks like a credential, and how it is taken out of a text.

A net, not a wall: a credential that looks like an ordinary word is not seen. What is known to be secret is therefore
given to `hide` by its value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote

HIDDEN = "[hidden]"
SHORTEST = 4  # a shorter text is no secret, and would be found inside ordinary words
SHORTEST_LINE = 12  # of a secret of several lines: shorter lines are ordinary words, too

TELLING = frozenset(
    {
        "apikey", "auth", "authorization", "credential", "credentials", "key", "passphrase", "passwd", "password",
        "secret", "token",
    }
)  # fmt: skip
WORDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")

# Tokens that say by their first letters what they are: Hugging Face, OpenAI and those who took after it, GitHub,
# GitLab, AWS, Slack, Google, Headgate. Long repetitions are bounded, so that no line of a log can keep us busy.
TOKEN = r"(?:hf_|sk-|gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|AIza|hg_)"  # noqa: S105
IN_TEXT = (
    re.compile(
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)", re.DOTALL
    ),
    re.compile(rf"(?<![A-Za-z0-9_-]){TOKEN}[A-Za-z0-9_-]{{12,512}}"),
    re.compile(r"(?<![A-Za-z0-9_-])A[KS]IA[A-Z0-9]{12,128}"),
    re.compile(
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{6,4096}\.[A-Za-z0-9_-]{6,8192}(?:\.[A-Za-z0-9_-]{0,2048})?"
    ),
    re.compile(r"(?<![A-Za-z0-9_-])gAAAAA[A-Za-z0-9_-]{60,16384}={0,2}"),  # what we sealed ourselves
    re.compile(r"(?i)(?<=\bbearer )[A-Za-z0-9._~+/-]{8,4096}=*"),
    re.compile(r"(?<=://)[^\s/?#@]{0,256}:[^\s/?#@]{1,512}(?=@)"),
)
NAMED = re.compile(
    r"""(?ix) (?<![a-z0-9_.-])
    ( [a-z0-9_.-]{0,40} (?: token | passw(?:or)?d | passphrase | secret | credentials? | authorization
                          | api[_-]?key | access[_-]?key | private[_-]?key | secret[_-]?key )
      ["']? \s{0,3} [=:] \s{0,3} ["']? )
    ( (?! \[hidden\] | (?: true | false | none | null | bearer | basic )\b ) [^\s"',;&<>()\[\]{}]{4,4096} )"""
)
WHOLE = re.compile(rf"\s*(?:{TOKEN}[A-Za-z0-9_-]{{6,}}|(?i:bearer|basic)\s+\S{{8,}})\s*")


def names_a_credential(name: str) -> bool:
    """Whether something of this name usually is one: HF_TOKEN, api-key, dbPassword. MAX_TOKENS is not."""
    return any(word.lower() in TELLING for word in WORDS.split(name))


def is_like_a_credential(value: str) -> bool:
    """Whether the text is, or holds, what looks like a credential: a known kind of token, a private key, a password
    in an address."""
    return WHOLE.fullmatch(value) is not None or any(pattern.search(value) for pattern in IN_TEXT)


def hide(text: str, known: Iterable[str] = ()) -> str:
    """The text without what looks like a credential, and without `known`, in whichever way that is usually written:
    as it is, in JSON, in Python, in an address, and every long line of it."""
    found = [match.span(2) for match in NAMED.finditer(text)]
    for pattern in IN_TEXT:
        found += [match.span() for match in pattern.finditer(text)]
    for piece in {piece for secret in known for piece in _pieces(secret)}:
        found += [match.span() for match in re.finditer(re.escape(piece), text)]
    return _without(text, found)


def hide_in_lines(lines: Sequence[str], known: Iterable[str] = ()) -> tuple[str, ...]:
    """The same for the lines of a log; a secret may go over several of them."""
    return tuple(hide("\n".join(lines), known).split("\n")) if lines else ()


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text with the spans hidden. All are found in the text as it was: a short secret inside of a long one must not
    break what the long one is known by."""
    parts, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            parts += [text[end:start], HIDDEN]
        end = max(end, stop)
    return "".join((*parts, text[end:]))


@lru_cache(maxsize=1024)
def _pieces(secret: str) -> frozenset[str]:
    ways = {
        secret,
        secret.strip(),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe="", errors="replace"),
    }
    lines = {line.strip() for line in secret.splitlines()} if "\n" in secret else set()
    found = {piece for piece in ways if len(piece) >= SHORTEST}
    return frozenset(found | {line for line in lines if len(line) >= SHORTEST_LINE})
