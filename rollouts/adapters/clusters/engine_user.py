"""The user that engines run as where Headgate runs as root, and what that user may reach.

What it may reach is a short list: the run folder and what is directly in it are closed to it, save the way to the files
of its version, which it can read and not write, and a home and temporary folders, which are its own. All engines of a
stack share this user, so they are kept from Headgate's data, not from each other.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controlplane.kernel.errors import Refused
from registry.domain.manifest import Manifest

DEFAULT_USER = "headgate-engine"
ENGINE_HOME = "engine-home"  # below the run folder
SETTING = "HEADGATE_ENGINE_USER"
MAKE_USER = f"useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {DEFAULT_USER}"


@dataclass(frozen=True, slots=True)
class EngineUser:
    """`groups` are all that it is in, `gid` too: a GPU's device may belong to one."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def engine_user(setting: str) -> EngineUser | None:
    """The user that the setting names; None: engines run as Headgate does.

    Empty: `headgate-engine` where Headgate runs as root and this user exists. "root": as root, though it exists.
    Raises Refused for a user that does not exist, is in root's group, or cannot be changed to.
    """
    me = pwd.getpwuid(os.geteuid()).pw_name if _exists(os.geteuid()) else str(os.geteuid())
    if os.geteuid() != 0:
        if setting in ("", me):
            return None
        raise Refused(
            f"{SETTING} is {setting}, but Headgate runs as {me}, and only root can start programs as somebody else.",
            fix=f"Run Headgate as root, or leave {SETTING} out.",
            code="engine-user",
        )
    try:
        entry = pwd.getpwnam(setting or DEFAULT_USER)
    except KeyError:
        if not setting:
            return None
        raise Refused(
            f"{SETTING} is {setting}, and this machine has no such user.",
            fix=f"Make it, for example with: {MAKE_USER.replace(DEFAULT_USER, setting)}",
            code="engine-user",
        ) from None
    if entry.pw_uid == 0:
        return None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    if 0 in groups:
        raise Refused(
            f"{entry.pw_name} is in the group {grp.getgrgid(0).gr_name}, so much of the machine is open to it.",
            fix=f"Give {SETTING} a user of its own, for example with: {MAKE_USER}",
            code="engine-user",
        )
    return EngineUser(entry.pw_name, entry.pw_uid, entry.pw_gid, groups)


def _exists(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


# --- what is open and what is closed -------------------------------------------------------------------------


def close_run_dir(run_dir: Path, user: EngineUser | None) -> None:
    """Takes every right of others from the run folder and from what is directly in it.

    The user's group keeps its right to pass through a folder (`open_to` gives it): its engines may run at this moment.
    """
    for path in (run_dir, *run_dir.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # files come and go
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid():
                continue
            passes = user is not None and found.st_gid == user.gid and stat.S_ISDIR(found.st_mode)
            kept = 0o7710 if passes else 0o7700
            if stat.S_IMODE(found.st_mode) & ~kept:
                path.chmod(stat.S_IMODE(found.st_mode) & kept)


def open_to(user: EngineUser, folder: Path, run_dir: Path) -> None:
    """Lets the user reach and read a version's files below a run folder; nobody but root can write them then.

    Files elsewhere are left as they are; `obstacle` says what is wrong with them.
    """
    folder, run_dir = folder.resolve(), run_dir.resolve()
    if run_dir not in folder.parents:
        return
    for path in (run_dir, *(path for path in folder.parents if run_dir in path.parents)):
        _let_pass(user, path)
    for place, _, names in os.walk(folder):
        for path, readable in [(Path(place), 0o555), *((Path(place, name), 0o444) for name in names)]:
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                continue
            if found.st_uid == user.uid:
                os.chown(path, 0, -1, follow_symlinks=False)
            wanted = (stat.S_IMODE(found.st_mode) | readable) & ~0o022
            if stat.S_IMODE(found.st_mode) != wanted:
                path.chmod(wanted)


def _let_pass(user: EngineUser, folder: Path) -> None:
    found = folder.stat()
    if found.st_gid != user.gid:
        os.chown(folder, -1, user.gid)
    wanted = (stat.S_IMODE(found.st_mode) | 0o010) & ~0o067
    if stat.S_IMODE(found.st_mode) != wanted:
        folder.chmod(wanted)


def temporary_of(run_dir: Path, variant: str) -> Path:
    """Outside the run folder: engines put unix sockets there, whose whole path has 107 bytes at most."""
    digest = hashlib.sha256(f"{run_dir}\0{variant}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"headgate-{digest}"


def make_places(user: EngineUser | None, run_dir: Path, variant: str) -> dict[str, str]:
    """Makes the home of all engines, where they cache what takes long, and an empty temporary folder of this one.

    Returns the variables that name them. Raises OSError, also when somebody else holds the temporary folder's name.
    """
    home, temporary = run_dir / ENGINE_HOME, temporary_of(run_dir, variant)
    owner, group = (user.uid, user.gid) if user is not None else (os.geteuid(), os.getegid())
    if home.exists() and home.stat().st_uid != owner:
        _remove(home)  # the setting has changed: what lies in it is of no use to another user
    home.mkdir(exist_ok=True, mode=0o700)
    _remove(temporary)
    temporary.mkdir(mode=0o700)  # fails where it exists, also as a link
    for path in (home, temporary):
        os.chown(path, owner, group)
    if user is not None:
        _let_pass(user, run_dir)
    return {"HOME": str(home), "TMPDIR": str(temporary)}


def remove_temporary(run_dir: Path, variant: str) -> None:
    """Takes the temporary folder away; what cannot be removed stays."""
    _remove(temporary_of(run_dir, variant))


def _remove(path: Path) -> None:
    # Safe against links: rmtree follows none, neither at the path nor below.
    shutil.rmtree(path, ignore_errors=True)


# --- looking with the user's eyes ----------------------------------------------------------------------------


def obstacle(user: EngineUser, program: str, folder: Path, manifest: Manifest) -> tuple[str, str]:
    """Why the engine would fail, or could do harm, as this user: about the program, and about the version's files.

    Sentences; empty when all is well.
    """
    files = [folder / entry.path for entry in manifest.entries]
    folders = sorted({folder, *(path for file in files for path in file.parents if folder in path.parents)})

    def about_program() -> str:
        if os.access(program, os.X_OK):
            return ""
        return f"{user.name} may not run {program}{_closed(Path(program))}."

    def about_files() -> str:
        for path in files:
            if not os.access(path, os.R_OK):
                return f"{user.name} may not read {path}{_closed(path)}."
        for path in [*folders, *files]:
            if os.access(path, os.W_OK):
                return f"{user.name} may change {path}, which was verified for it."
        return ""

    return _seen_as(user, about_program), _seen_as(user, about_files)


def _closed(path: Path) -> str:
    """Which folder on the way is closed, links followed."""
    for way in (path, path.resolve()):
        for parent in reversed(way.parents):
            if not os.access(parent, os.X_OK):
                return f": {parent} is closed to it"
    return ""


def _seen_as(user: EngineUser, look: Callable[[], str]) -> str:
    """What `look` says in a process of the user."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            words = look()
        except OSError as error:
            words = f"Nothing can be done as {user.name}: {error}."
        finally:
            os.write(writing, words.encode(errors="replace")[:4000])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as handle:
        said = handle.read()
    os.waitpid(child, 0)
    return said.decode(errors="replace")
