"""Brings what the pages use from others into static/vendor, and checks that it is what was pinned.

    python deploy/vendor.py           fetch with `npm pack`, refuse what differs from the pinned digests
    python deploy/vendor.py --check   compare the committed files with the digests; no network, no npm
    python deploy/vendor.py --pin     fetch and write new digests into vendor.toml (after a change of version)

Reads deploy/vendor.toml. Exit status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "deploy" / "vendor.toml"
TARGET = ROOT / "static" / "vendor"
STROKE = (
    'viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"'
    ' stroke-linejoin="round"'
)


@dataclass(frozen=True)
class Vendored:
    """A file of ours made from others' work: where it goes and what it must be."""

    to: str
    sha256: str
    content: bytes | None = None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="compare only")
    group.add_argument("--pin", action="store_true", help="fetch, and accept what came")
    options = parser.parse_args()
    table = tomllib.loads(TABLE.read_text())
    if options.check:
        return check(table)
    return fetch(table, pin=options.pin)


def check(table: dict[str, Any]) -> int:
    """Compares the committed files with the table. Names every file that differs, is missing or is extra."""
    wanted = {entry["to"]: entry["sha256"] for package in table["package"] for entry in package["files"]}
    wanted[table["sprite"]["to"]] = table["sprite"]["sha256"]
    there = {path.name for path in TARGET.iterdir()} if TARGET.exists() else set()
    problems = [f"{name}: not in vendor.toml" for name in sorted(there - set(wanted))]
    for name, digest in sorted(wanted.items()):
        if name not in there:
            problems.append(f"{name}: missing")
        elif (found := sha256(TARGET.joinpath(name).read_bytes())) != digest:
            problems.append(f"{name}: is {found[:12]}, vendor.toml says {digest[:12]}")
    for problem in problems:
        print(f"static/vendor/{problem}", file=sys.stderr)
    print(f"static/vendor: {len(wanted)} files, {len(problems)} problems")
    return 1 if problems else 0


def fetch(table: dict[str, Any], *, pin: bool) -> int:
    """Fetches all packages; writes files only when every digest is right, or when pinning."""
    made = []
    for package in table["package"]:
        members = unpack(package["name"], package["version"])
        made += [Vendored(entry["to"], entry["sha256"], members[entry["from"]]) for entry in package["files"]]
    made.append(sprite(table["sprite"]))
    differing = [item for item in made if sha256(item.content or b"") != item.sha256]
    if differing and not pin:
        for item in differing:
            came = sha256(item.content or b"")
            print(
                f"{item.to}: came as {came[:12]}, pinned is {item.sha256[:12] or 'nothing'}", file=sys.stderr
            )
        print("Nothing was written. Read what changed, then run with --pin.", file=sys.stderr)
        return 1
    TARGET.mkdir(parents=True, exist_ok=True)
    text = TABLE.read_text()
    for item in made:
        assert item.content is not None
        (TARGET / item.to).write_bytes(item.content)
        text = pinned(text, item.to, sha256(item.content))
    if pin:
        TABLE.write_text(text)
    print(f"static/vendor: {len(made)} files written")
    return 0


def unpack(name: str, version: str) -> dict[str, bytes]:
    """The files of one npm package by path, as `npm pack` delivers it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["npm", "pack", "--silent", f"{name}@{version}"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            members = [member for member in tar.getmembers() if member.isfile()]
            files = ((member.name.removeprefix("package/"), tar.extractfile(member)) for member in members)
            return {path: stream.read() for path, stream in files if stream is not None}


def sprite(table: dict[str, Any]) -> Vendored:
    """One SVG with a symbol an icon, in the order of the table, ours last."""
    members = unpack(table["package"], table["version"])
    symbols = []
    for icon in table["icons"]:
        source = members[f"icons/{icon}.svg"].decode()
        body = source[source.index(">", source.index("<svg")) + 1 : source.rindex("</svg>")]
        symbols.append((icon, re.sub(r"\s*\n\s*", "", body)))
    symbols += table["own"].items()
    lines = [f'<symbol id="{name}" {STROKE}>{body}</symbol>' for name, body in symbols]
    text = '<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(lines) + "\n</svg>\n"
    return Vendored(table["to"], table["sha256"], text.encode())


def pinned(text: str, to: str, digest: str) -> str:
    """vendor.toml with the digest of one target replaced."""
    return re.sub(rf'(to = "{re.escape(to)}",?\s*sha256 = )"[0-9a-f]*"', rf'\1"{digest}"', text)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
