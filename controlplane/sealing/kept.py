"""Secrets that an installation of one machine makes for itself and keeps in its run folder, for its owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from controlplane.sealing.keys import new_key

KEYS_FILE = "encryption-keys"


def kept_secret(path: Path, fresh: str) -> str:
    """What the file holds; `fresh` when there is none yet. Of several processes at once all get the same."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.new")
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            handle.write(fresh)
        try:
            os.link(own, path)  # unlike a rename it leaves the file of a quicker process alone
        except OSError:
            if not path.exists():  # a file system without links
                own.replace(path)
        own.unlink(missing_ok=True)
    return path.read_text()


def kept_keys(run_dir: Path) -> str:
    """The encryption keys of the run folder, one made when there is none: by line, the newest first."""
    return kept_secret(run_dir / KEYS_FILE, new_key() + "\n")


def add_key(run_dir: Path) -> None:
    """Makes a key the newest of the run folder's. The others stay, to open what is stored under them."""
    path = run_dir / KEYS_FILE
    before = kept_keys(run_dir)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(new_key() + "\n" + before)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(path)
