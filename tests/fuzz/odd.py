"""Values that break programs which did not think of them, as text of a form and as JSON."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NUL = "\x00"
DIGITS = "9" * 5_000
YAML_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

TEXTS: tuple[str, ...] = (
    "", " ", "0", "-1", "1", "true", "none", "new", NUL, f"a{NUL}b", "\\u0000", "\ufffe", "\u202e", "é", "\U0001f600",
    "1e308", "-1e308", "1e400", "1e-400", "nan", "inf", "0x10", "1_000", "٣", "²", "½", DIGITS, "-" + DIGITS, "9" * 19,
    "9" * 30, str(2**31), str(2**63), "0." + DIGITS, "1:30", "12:00:00", "x" * 300, "x" * 3_000, "y" * 70_000,
    "http://[", "//[", "//evil.example", "/\\evil.example", "javascript:1", "\r\nX: 1", "../../etc/passwd", "%00", "%s", "{0}",
    "'", '"', "<script>", "`", ";--", "*", "_", "%", "@", "@1", f"a@{DIGITS}", "a@-1", "a@٣", "0,1,2", "," * 2_000,
    "[" * 100_000, "{" * 100_000, '{"a":' * 5_000, "[]", "{}", "null", '"\\ud800"', '{"a": "\\ud800"}', '{"a": "\\u0000"}',
    '{"a": 1e999}', '{"a": ' + DIGITS + "}", '{"a": NaN}', '{"a": 1e308}', "00000000-0000-0000-0000-000000000000",
    YAML_BOMB, "a: &a [*a]", "alpha: 2020-01-01", "alpha: 0x" + "f" * 30_000, "!!python/object:os.system {}",
    "!!binary aGk=", "alpha: !!binary aGk=", "!!set {a, b}", "? [1, 2]\n: 3", "1: 2\nb: 3", "null: 2\nb: 3", "<<: {alpha: 1}",
    'gates: [{key: "\\ud800"}]', 'gates: [{key: "\\0"}]', "gates: [{key: 2020-01-01, kind: error_rate}]", "alpha: .inf",
    "gates: [{key: a, kind: error_rate, ratio: 1e308}]", "name: =", "\ufeffalpha: 0.1", "--- a\n--- b", "a: 9999-99-99",
)  # fmt: skip

JSON_VALUES: tuple[Any, ...] = (
    *TEXTS, "\ud800", "a\udfffb", None, True, False, 0, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -1e308, 1e-320, 0.1, [],
    {}, [[]], {"a": 1}, {"": 1}, {NUL: 1}, {"\ud800": 1}, [None], ["x"] * 1_000, {str(i): i for i in range(1_000)},
)  # fmt: skip


def nested(depth: int) -> Any:
    """A list in a list, `depth` times."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


texts = st.sampled_from(TEXTS) | st.text(max_size=12)
json_values = st.sampled_from((*JSON_VALUES, nested(40), nested(400)))
paths = texts.filter(lambda text: len(text) < 6_000)

HEADERS: tuple[tuple[str, str], ...] = (
    ("Cookie", 'sessionid="\\000\\000\\000\\000\\000\\000\\000\\000\\000"'),
    ("Cookie", "sessionid=" + "a" * 5_000),
    ("Cookie", "sessionid=é; csrftoken=\x7f; messages=W1tdXQ"),
    ("Cookie", 'csrftoken="\\000"; messages="\\000:1:2"'),
    ("Cookie", "=;;;=;a==b;\x01"),
    ("Content-Type", "application/x-www-form-urlencoded; charset=hex"),
    ("Content-Type", "application/json; charset=hex"),
    ("Content-Type", "application/json; charset=utf-16"),
    ("Content-Type", "application/json; charset=no-such"),
    ("Content-Type", "application/json; charset=\xff"),
    ("Content-Type", "multipart/form-data"),
    ("Content-Type", "multipart/form-data; boundary=" + "b" * 300),
    ("Content-Type", "multipart/form-data; boundary=\xe9"),
    ("Content-Type", "multipart/mixed; boundary=x"),
    ("Content-Type", "text/plain; charset=punycode"),
    ("Content-Type", "///"),
    ("Content-Type", ""),
    ("Content-Encoding", "gzip"),
    ("Accept", ";;;"),
    ("Accept", "application/xml"),
    ("Accept", "*/*;q=x, text/html;level=1;q=" + DIGITS),
    ("Accept", "\xff/\xfe"),
    ("Accept-Language", "*-*-*;q=é"),
    ("Idempotency-Key", "\x7f"),
    ("Idempotency-Key", "k" * 5_000),
    ("Idempotency-Key", "é"),
    ("Idempotency-Key", "plain"),
    ("If-Match", '"1'),
    ("If-None-Match", "*, \xe9"),
    ("If-Modified-Since", "99 Foo 99999999 99:99:99"),
    ("Range", "bytes=999999999999999999999-"),
    ("Last-Event-ID", "9" * 30),
    ("Last-Event-ID", "-1"),
    ("Last-Event-ID", "²"),
    ("Authorization", "Bearer"),
    ("Authorization", "Bearer hg_\xff"),
    ("Authorization", "Bearer hg_" + "x" * 5_000),
    ("Authorization", "Basic !!!"),
    ("Host", "[::1"),
    ("Host", "evil.example"),
    ("Host", "local_host"),
    ("Host", "a" * 300),
    ("X-Forwarded-For", "999.1.1.1, \xff"),
    ("X-Forwarded-Proto", "https"),
    ("X-Request-ID", "\xe9"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-CSRFToken", "\x7f"),
    ("Origin", "http://["),
    ("Origin", "null"),
    ("Referer", "http://["),
    ("HX-Request", "true"),
    ("HX-Request", "\xff"),
    ("HX-Current-URL", "http://["),
    ("HX-Current-URL", "%00"),
    ("HX-Current-URL", "x" * 5_000),
    ("HX-Boosted", "maybe"),
    ("HX-PTag", "\xff" * 100),
    ("HX-Target", "\xe9"),
    ("HX-Trigger", "%ff"),
    ("HX-Trigger-URI-AutoEncoded", "true"),
    ("HX-Prompt", "\xff"),
)

RAW_BODIES: tuple[bytes, ...] = (
    b"", b"\x00", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 50_000, b'"\\ud800"', b"{", b"nul", b'{"a": 1e999}', b'{"a": ' + DIGITS.encode() + b"}",
    b'{"name": "\\ud800"}', b'{"name": "\\u0000"}', b'{"\\u0000": 1}', b"\xef\xbb\xbf{}", b"NaN", b"--x\r\n\r\n--x--", b"a=b&c",
)  # fmt: skip
