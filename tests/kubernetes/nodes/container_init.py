"""Sets a container's place up, then becomes its program: the first process in the container's own mount namespace.

    python -I -S container_init.py PLACE WORD...

PLACE is a JSON object: `mounts` is a list of [source, target, read only], in which a source is a folder or a file;
`kept` a list of folders that a container has whatever is mounted above them: what its image brings; `scratch` a folder
in memory, of the container's pod. WORD... is the program. Exit status 126 and a sentence on standard error: a mount did
not succeed.

Where a target is not there yet, the folder in which it would be made belongs to the machine. So that folder is covered
by one in memory, with all that it holds bound into it: nothing of the machine is changed. It imports the standard
library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
READ_ONLY, REMOUNT, BIND, MOVE, RECURSIVE = 1, 32, 4096, 8192, 16384
NOT_STARTED = 126


def mount(source: str, target: Path, flags: int, kind: str = "", options: str = "") -> None:
    done = LIBC.mount(source.encode(), str(target).encode(), kind.encode() or None, flags, options.encode())
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} at {target}: {os.strerror(number)}")


def make(path: Path, *, like: Path) -> None:
    """An empty folder, or an empty file, to mount something like that at."""
    if like.is_dir():
        path.mkdir(exist_ok=True)
    else:
        path.touch()


def cover(folder: Path, *, scratch: str) -> None:
    """Puts a folder in memory over this one that shows the same, and can be written to."""
    fresh = Path(tempfile.mkdtemp(dir=scratch))
    mount("place", fresh, 0, "tmpfs", "mode=755")
    for entry in folder.iterdir():
        if entry.is_symlink():
            (fresh / entry.name).symlink_to(entry.readlink())
        elif entry.exists():
            make(fresh / entry.name, like=entry)
            mount(str(entry), fresh / entry.name, BIND | RECURSIVE)
    mount(str(fresh), folder, MOVE)


def prepare_target(target: Path, *, like: Path, own: set[int], scratch: str) -> None:
    """Makes the place where something is to be mounted. `own`: devices that may be written to."""
    missing = [target]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    if not target.exists():
        there = missing[-1].parent
        if there.stat().st_dev not in own:
            cover(there, scratch=scratch)
            own.add(there.stat().st_dev)
        missing.remove(target)
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
        make(target, like=like)


def show(held: str, target: Path, *, read_only: bool, kept: dict[str, str]) -> None:
    """Mounts what is `held` open, and below it what is kept of the folders that it hides."""
    mount(held, target, BIND | RECURSIVE)
    for name, source in kept.items():
        path = Path(name)
        if path.is_relative_to(target) and path != target:
            path.mkdir(parents=True, exist_ok=True)
            mount(source, path, BIND | RECURSIVE)
    if read_only:
        mount("", target, REMOUNT | BIND | READ_ONLY)


def hold(path: str) -> str:
    """A name of this folder or file that still means it when something else was mounted over it."""
    return f"/proc/self/fd/{os.open(path, os.O_PATH | os.O_CLOEXEC)}"


def main(place: str, words: list[str]) -> None:
    told = json.loads(place)
    try:
        mounts = [(hold(source), Path(target), read_only) for source, target, read_only in told["mounts"]]
        kept = {path: hold(path) for path in told["kept"]}
        own = {Path("/").stat().st_dev}  # of the sandbox, and in memory
        # A folder before what is mounted in it.
        for held, target, read_only in sorted(mounts, key=lambda one: len(one[1].parts)):
            prepare_target(target, like=Path(held), own=own, scratch=told["scratch"])
            show(held, target, read_only=read_only, kept=kept)
    except OSError as problem:
        print(f"the container's place could not be made: {problem}", file=sys.stderr)
        sys.exit(NOT_STARTED)
    try:
        os.execvp(words[0], words)
    except OSError as problem:
        print(f"{words[0]}: {problem.strerror}", file=sys.stderr)
        sys.exit(127)


main(sys.argv[1], sys.argv[2:])
