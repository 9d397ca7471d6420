"""Compares the files of a version with its manifest, inside of the cluster and before an engine reads them.

Runs in an init container, from nothing but Python's standard library, as a script with three words: the folder, the
manifest and the report. Exit status 0: they are the same. Exit status 3: the first that differs is named in the report,
as JSON with `path` and `detail`, and no engine starts. The rules are those of `registry.domain.manifest.verify_folder`;
a test holds the two against each other.
"""

from __future__ import annotations

import hashlib
import json
import stat
import sys
from pathlib import Path
from typing import Any

DIFFERS = 3
CHUNK_BYTES = 1 << 20


def difference(folder: Path, manifest: list[dict[str, Any]]) -> tuple[str, str] | None:
    """(path, detail) of the first file that differs; None when there is none."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found[name] = path
        elif not stat.S_ISDIR(mode):
            return name, "is neither a file nor a folder in the cluster"
    for entry in manifest:
        kept = found.pop(entry["path"], None)
        if kept is None:
            return entry["path"], "is missing in the cluster"
        size = kept.stat().st_size
        if size != entry["size"]:
            return entry["path"], f"has {size} bytes in the cluster, the manifest says {entry['size']}"
        digest = hashlib.sha256()
        with kept.open("rb") as handle:
            while chunk := handle.read(CHUNK_BYTES):
                digest.update(chunk)
        if digest.hexdigest() != entry["sha256"]:
            return entry["path"], "differs in the cluster from the manifest (its SHA-256 changed)"
    for name in sorted(found):
        return name, "is not in the manifest, but lies in the cluster beside the others"
    return None


def main(folder: str, manifest: str, report: str) -> int:
    different = difference(Path(folder), json.loads(Path(manifest).read_text(encoding="utf-8")))
    if different is None:
        return 0
    words = json.dumps({"path": different[0], "detail": different[1]})
    Path(report).write_text(words, encoding="utf-8")
    return DIFFERS


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
