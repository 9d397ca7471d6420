"""Brings a version's files from Headgate into a volume, whole or not at all.

Runs in a Job, from nothing but Python's standard library, as a script with six words: the address of the version's
files, the folder of the volume, the name of the version's folder in it, the manifest, the pass and the report. Every
file is compared with the manifest as it comes, in a hidden folder beside the final one, which is renamed when all of it
is there and on the disk. So several may run at once, and one may be killed at any moment: a folder with the version's
name was right when it came. One that is there is left as it is: the engine's pod compares it when it starts.

Exit statuses: 0 it is there; DIFFERS, REFUSED, UNREACHABLE and NO_VOLUME with the reason in the report, as JSON with
`detail`, and `path` for a file that differs. While it runs, its output says how far it is.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path, PurePosixPath
from typing import Any

DIFFERS, REFUSED, UNREACHABLE, NO_VOLUME = 3, 4, 5, 6  # the first two are no better with another try
CHUNK_BYTES = 1 << 20
SILENCE_SECONDS = 30.0  # that Headgate may take for its next piece
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before another try of one file
TURN_SECONDS = 10.0  # until it is asked again for one that has no room for another download
MOST_TURNS = 360  # times that it is
TOLD_SECONDS = 5.0
INCOMING = ".incoming-"
LEFT_SECONDS = 24 * 3_600.0  # a folder that was not touched for so long is one of a Job that was killed
LONGEST_ANSWER = 4_096  # bytes of a refusal that are read
PASSING = frozenset({408, 425, 500, 502, 503, 504})
BUSY = 429


class FillFailure(Exception):
    """Why the files are not there. `status` is the exit status, `path` the file that differs."""

    def __init__(self, status: int, detail: str, path: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail, self.path = status, detail, path


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The pass is shown to nobody else."""

    def redirect_request(self, *arguments: Any) -> None:
        """Says that a redirection is an answer like any other refusal."""


class ComingFiles:
    """The files of one version while they come."""

    def __init__(self, address: str, token: str, manifest: list[dict[str, Any]], folder: Path) -> None:
        self._address, self._token, self._manifest, self._folder = address, token, manifest, folder
        # No proxy of the environment: Headgate's own address is what was written down.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
        self._total = sum(int(entry["size"]) for entry in manifest)
        self._done = 0
        self._told = 0.0

    def fetch(self) -> None:
        """All of them. Raises FillFailure, and OSError of the volume."""
        self._tell(0)
        for entry in self._manifest:
            self._fetch_file(entry)
        for folder in [*(path for path in self._folder.rglob("*") if path.is_dir()), self._folder]:
            folder.chmod(0o755)
            _to_disk(folder)

    def _fetch_file(self, entry: dict[str, Any]) -> None:
        parts = PurePosixPath(entry["path"])
        if parts.is_absolute() or ".." in parts.parts:
            raise FillFailure(DIFFERS, "leaves the version's folder", entry["path"])
        target = self._folder / parts
        target.parent.mkdir(parents=True, exist_ok=True)
        pauses = list(PAUSES)
        turns = MOST_TURNS
        while True:
            before = self._done
            try:
                self._receive(entry, target)
                return
            except urllib.error.HTTPError as error:
                if error.code == BUSY and turns:
                    turns -= 1
                    time.sleep(TURN_SECONDS)
                    continue
                why = f"it answered {error.code}: {_said_in(error)}"
                if error.code not in PASSING and error.code != BUSY:
                    raise FillFailure(REFUSED, why) from None
            except _Broken as error:
                why = str(error)
            self._done = before
            if not pauses:
                raise FillFailure(UNREACHABLE, why)
            time.sleep(pauses.pop(0))

    def _receive(self, entry: dict[str, Any], target: Path) -> None:
        request = urllib.request.Request(  # noqa: S310 - the operator's own address, checked when it was written down
            f"{self._address}/{urllib.parse.quote(entry['path'])}",
            headers={"Authorization": f"Bearer {self._token}", "Accept-Encoding": "identity"},
        )
        digest, size = hashlib.sha256(), 0
        with self._asked(request) as answer, target.open("wb") as handle:
            while chunk := _piece_of(answer):
                size += len(chunk)
                if size > entry["size"]:
                    raise FillFailure(
                        DIFFERS,
                        f"has more bytes as it comes from Headgate than the manifest's {entry['size']}",
                        entry["path"],
                    )
                digest.update(chunk)
                handle.write(chunk)
                self._tell(len(chunk))
            handle.flush()
            os.fsync(handle.fileno())
        if size < entry["size"] and answer.headers.get("Content-Length") != str(size):
            raise _Broken(f"the connection ended after {size} of {entry['size']} bytes")
        if size != entry["size"]:
            detail = f"has {size} bytes as it comes from Headgate, the manifest says {entry['size']}"
            raise FillFailure(DIFFERS, detail, entry["path"])
        if digest.hexdigest() != entry["sha256"]:
            detail = "differs as it comes from Headgate from the manifest (its SHA-256 changed)"
            raise FillFailure(DIFFERS, detail, entry["path"])
        target.chmod(0o444)

    def _asked(self, request: urllib.request.Request) -> Any:
        try:
            return self._opener.open(request, timeout=SILENCE_SECONDS)
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise _Broken.of(error) from None

    def _tell(self, moved: int) -> None:
        self._done += moved
        if moved and time.monotonic() - self._told < TOLD_SECONDS:
            return
        self._told = time.monotonic()
        os.utime(self._folder)  # so that nobody takes it for one that was left behind
        sys.stdout.write(f"{self._done} of {self._total} bytes\n")
        sys.stdout.flush()


class _Broken(Exception):
    """The connection to Headgate could not be made, or broke. No OSError: those are the volume's."""

    @classmethod
    def of(cls, error: Exception) -> _Broken:
        return cls(str(getattr(error, "reason", "") or error or type(error).__name__))


def _piece_of(answer: Any) -> bytes:
    try:
        piece = answer.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken.of(error) from None
    assert isinstance(piece, bytes)
    return piece


def _said_in(error: urllib.error.HTTPError) -> str:
    """What the answer says, where it is one of Headgate's own; else its reason."""
    if 300 <= error.code < 400:
        return "it sends elsewhere; write down the address that it names, such as the one with https"
    try:
        said = json.loads(error.read(LONGEST_ANSWER))
        return str(said.get("detail") or said["title"])
    except (OSError, ValueError, KeyError, AttributeError, http.client.HTTPException):
        return str(error.reason)


def _to_disk(folder: Path) -> None:
    """What is in the folder survives a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network filesystems know no such call for a folder
            raise
    finally:
        os.close(handle)


def _sweep(volume: Path) -> None:
    """Removes what Jobs left behind that were killed."""
    for left in volume.glob(f"{INCOMING}*"):
        try:
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:
            continue  # another Job was faster


def fill(address: str, volume: Path, name: str, manifest: list[dict[str, Any]], token: str) -> None:
    """The folder of the version is there when this returns. Raises FillFailure."""
    target = volume / name
    try:
        if target.is_dir():
            return
        _sweep(volume)
        incoming = Path(tempfile.mkdtemp(prefix=INCOMING, dir=volume))
        try:
            ComingFiles(address, token, manifest, incoming).fetch()
            try:
                incoming.rename(target)
            except OSError as error:
                # Another Job that brought the same files was faster.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not target.is_dir():
                    raise
            _to_disk(volume)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
    except OSError as error:
        raise FillFailure(NO_VOLUME, f"The volume cannot be written: {error.strerror or error}") from None


def main(address: str, volume: str, name: str, manifest: str, token: str, report: str) -> int:
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # the folder is taken away on the way out
    try:
        entries = json.loads(Path(manifest).read_text(encoding="utf-8"))
        fill(address, Path(volume), name, entries, Path(token).read_text(encoding="ascii").strip())
    except FillFailure as failure:
        words = {"detail": failure.detail[:1_000], **({"path": failure.path} if failure.path else {})}
        Path(report).write_text(json.dumps(words), encoding="utf-8")
        return failure.status
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:7]))
