"""How the command ends. The numbers are a contract with pipelines: docs/cli.md lists them.

0 and 1 say what became of a rollout, and only the server knows that: whatever else happens has a number of its own.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """An exit code. `meaning` is the line of the documentation."""

    OK = 0, "done; of `wait`: the rollout was promoted"
    ROLLED_BACK = 1, "of `wait`: the rollout was rolled back"
    USAGE = 2, "the command line, the address, the token or a proxy is wrong or missing"
    REFUSED = 3, "invalid input, or refused by policy; nothing was changed"
    NOT_FOUND = 4, "what was named does not exist"
    CONFLICT = 5, "it changed meanwhile, its state does not allow this, or a rollout is active already"
    UNAVAILABLE = (
        6,
        "the control plane, or a part behind it, does not answer, or something else does; the same call may work later",
    )
    TIMED_OUT = 7, "of `wait`: not decided in time; the rollout goes on"
    ENDED_OTHERWISE = 8, "of `wait`: the rollout was cancelled, superseded, or failed and needs a person"
    NOT_ALLOWED = 9, "the token is unknown or expired, or its scopes or its owner's role do not allow this"
    UNDECIDED = (
        10,
        'of `wait`: several candidates, and no winner by the deadline ("A or B"); a person chooses an arm',
    )
    DIFFERS = (
        11,
        "of `replay`: something comes out differently; with --policy: a decision would have been another",
    )
    TAMPERED = 12, "of `replay`: the recorded evidence was changed after it was written"
    INTERNAL = 70, "the command itself failed, which is a fault of ours; nothing is known about the outcome"
    OUTPUT_FAILED = 74, "the answer could not be written: the disk is full, for example"
    INTERRUPTED = 130, "stopped with Ctrl-C; of `wait`: the rollout goes on"
    OUTPUT_CLOSED = 141, "whoever read the answer stopped reading, as `head` does; nothing is said"

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Exit:
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    @property
    def word(self) -> str:
        """`rolled-back`, as the JSON result has it."""
        return self.name.lower().replace("_", "-")


def exit_of_status(status: int) -> Exit:
    """What an HTTP status other than success means to a pipeline."""
    if status in (401, 403):
        return Exit.NOT_ALLOWED
    if status == 404:
        return Exit.NOT_FOUND
    if status == 409:
        return Exit.CONFLICT
    if status in (408, 429) or not 400 <= status < 500:
        return Exit.UNAVAILABLE
    return Exit.REFUSED
