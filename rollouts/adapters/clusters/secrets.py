"""Opens the secrets of a serving spec, in memory and at the moment of a launch. No Django: the launcher uses it.

A reference names a file of the operator's folder. The file must be a plain one (no link) that belongs to this user or
to root and that nobody else may read, in a folder of which the same is true: what others can read is no secret, and
what others can write is not the operator's word.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from controlplane.kernel.credentials import SHORTEST
from controlplane.kernel.errors import HeadgateError, InvalidInput, Refused
from controlplane.sealing.keys import KeyMissing, KeyRing
from controlplane.sealing.known import remember
from rollouts.domain.engine_options import LONGEST_SECRET
from rollouts.domain.secrets import FILE_NAME, SealedSecret, Secret, SecretFile
from rollouts.ports import WorkloadSpec

NO_SECRET = "no-secret"  # noqa: S105 - the code of the errors raised here
OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class SecretStore:
    """Where the secrets of this machine's engines come from: the operator's folder, and the keys of what is stored."""

    folder: Path
    keys: Callable[[], KeyRing]

    def files(self) -> tuple[str, ...]:
        """The names that a spec may refer to; a file that is not fit is not among them."""
        found = []
        with suppress(OSError):
            for path in sorted(self.folder.iterdir()):
                with suppress(Refused):
                    if FILE_NAME.fullmatch(path.name):
                        self._read(path.name)
                        found.append(path.name)
        return tuple(found)

    def open(self, name: str, secret: Secret | str) -> str:
        """The value of the variable `name`. Raises Refused with the code no-secret: what is missing, and the remedy."""
        if isinstance(secret, str):
            return secret  # of a launch that an earlier version of Headgate wrote down
        if isinstance(secret, SecretFile):
            value = self._read(secret.name)
        elif isinstance(secret, SealedSecret):
            try:
                value = self.keys().open(secret.sealed, what=f"The value of {name}")
            except (KeyMissing, InvalidInput) as error:
                raise Refused(error.message, fix=error.fix, code=NO_SECRET) from None
        else:
            raise Refused(f"The value of {name} was never set.", fix="Set it.", code=NO_SECRET)
        remember(value)
        return value

    def open_all(self, secrets: Mapping[str, Secret | str]) -> dict[str, str]:
        """All values by variable. Raises Refused as `open` does."""
        return {name: self.open(name, secret) for name, secret in secrets.items()}

    def values(self, environment: Mapping[str, Secret | str]) -> tuple[str, ...]:
        """The values that can be read now, to keep them out of texts. Never raises."""
        found = []
        for name, value in environment.items():
            with suppress(HeadgateError, OSError):
                if not isinstance(value, str):
                    found.append(self.open(name, value))
        return tuple(found)

    def read_file(self, name: str, *, longest: int = LONGEST_SECRET) -> str:
        """The text of the operator's file of this name. Raises Refused as `open` does."""
        return self._read(name, longest)

    def _read(self, name: str, longest: int = LONGEST_SECRET) -> str:
        path = self.folder / name
        try:
            self._check(self.folder.lstat(), f"The folder of secrets {self.folder}", folder=True)
            # Without O_NONBLOCK a pipe of that name would hold the launch for ever.
            with os.fdopen(
                os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb"
            ) as handle:
                self._check(os.fstat(handle.fileno()), f"The secret file {path}", folder=False)
                content = handle.read(4 * longest + 2)
        except OSError as error:
            raise Refused(
                f"The secret file {name!r} cannot be read from {self.folder}: {error.strerror}.",
                fix="Put it there as a plain file (chmod 600), or take another variant.",
                code=NO_SECRET,
            ) from None
        try:
            value = content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            value = ""
        if "\0" in value or not SHORTEST <= len(value) <= longest:
            raise Refused(
                f"The secret file {name!r} does not hold {SHORTEST} to {longest:,} characters of text.",
                fix="Write the secret, and nothing else, into it.",
                code=NO_SECRET,
            )
        return value

    def _check(self, found: os.stat_result, what: str, *, folder: bool) -> None:
        kind = stat.S_ISDIR if folder else stat.S_ISREG
        problem = ""
        if not kind(found.st_mode):
            problem = "is no plain folder" if folder else "is no plain file"
        elif found.st_uid not in (os.geteuid(), 0):
            problem = "belongs to somebody else"
        elif found.st_mode & OTHERS:
            problem = "may be read or written by others"
        if problem:
            raise Refused(
                f"{what} {problem}.", fix=f"chmod {'700' if folder else '600'}, and own it.", code=NO_SECRET
            )


def renewed_environment(spec: WorkloadSpec, keys: KeyRing) -> dict[str, str | Secret] | None:
    """The spec's variables with every stored secret under the newest key; None when all are. Raises KeyMissing."""
    fresh: dict[str, str | Secret] = dict(spec.environment)
    for name, value in spec.environment.items():
        if isinstance(value, SealedSecret):
            fresh[name] = replace(
                value, sealed=keys.renew(value.sealed, what=f"{name} of the engine {spec.variant}")
            )
    return None if fresh == spec.environment else fresh
