"""What a sandbox may have left on this machine."""

from __future__ import annotations

from pathlib import Path


def processes_of(folder: Path) -> dict[int, str]:
    """Command lines of the processes in the sandbox of this folder (a mount tells), and of those that name it."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mounts = (entry / "mountinfo").read_text()
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in command + mounts:
            found[int(entry.name)] = command
    return found
