"""Which files of a version may be served: only data. Each file has a class by its content and its name.

The rule is an allowlist. A file is served when its name belongs to a kind that engines read as data and its content
is of that kind; whatever else lies in the version is refused with its name and the reason, unless the operator allowed
that one file. What a file must be is in `contents`, what code looks like in `signatures`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from controlplane.kernel.foreign import words_of

SHOWN_IN_A_SENTENCE = 5
LONGEST_PATH_SHOWN = 120
PYFUNC_MODEL = "python_model.pkl"


class FormatKind(StrEnum):
    """What a file is. The first five are data; the others are not served."""

    WEIGHTS = "weights"
    CONFIGURATION = "configuration"
    TOKENIZER = "tokenizer"
    TEMPLATE = "template"
    DOCUMENT = "document"
    CODE = "code"
    PICKLE = "pickle"
    ARCHIVE = "archive"
    DAMAGED = "damaged"  # its content is not what its name says
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FormatVerdict:
    """What was found of one file's content.

    why      ends the sentence "The file ..." and says why it is not served; "" when it is data
    finding  ends the same sentence; something about a file of data that people should know, mostly ""
    """

    kind: FormatKind
    why: str = ""
    finding: str = ""


@dataclass(frozen=True, slots=True, order=True)
class FileClass:
    """A verdict with the manifest's path of the file."""

    path: str
    kind: FormatKind
    why: str = ""
    finding: str = ""

    @classmethod
    def of(cls, path: str, verdict: FormatVerdict) -> Self:
        return cls(path, verdict.kind, verdict.why, verdict.finding)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(str(data["path"]), FormatKind(data["kind"]), str(data["why"]), str(data["finding"]))

    def to_json(self) -> dict[str, str]:
        return {"path": self.path, "kind": self.kind.value, "why": self.why, "finding": self.finding}

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def refused_files(classes: Iterable[FileClass], *, allowed: Collection[str] = ()) -> tuple[FileClass, ...]:
    """The files that keep a version from being served; `allowed` holds paths or names that the operator allowed."""
    return tuple(f for f in classes if f.why and f.path not in allowed and f.name not in allowed)


def refusal_of(refused: Collection[FileClass]) -> str:
    """The sentences for `refused_files`; empty when there are none."""
    if not refused:
        return ""
    shown = sorted(refused)[:SHOWN_IN_A_SENTENCE]
    more = len(refused) - len(shown)
    files = "; ".join(f"{words_of(file.path, LONGEST_PATH_SHOWN)} {file.why}" for file in shown)
    files += f"; and {more} more" if more else ""
    remedy = "Save weights as safetensors, leave the other files out, and register a new version"
    if any(file.name == PYFUNC_MODEL for file in refused):
        remedy = (
            f"{PYFUNC_MODEL} is how MLflow keeps a Python model, which no engine serves: log the model's own files "
            "(safetensors, configuration, tokenizer) instead"
        )
    return (
        f"Refused, because only data is served: {files}. {remedy}; or the operator allows a file by name "
        "(HEADGATE_ALLOWED_PICKLE_FILES)."
    )


def findings_of(classes: Iterable[FileClass], *, served: bool) -> tuple[str, ...]:
    """What people should know of the files, a sentence each.

    `served`: the version may be launched, so whatever is not data was allowed by the operator.
    """
    found = []
    for file in classes:
        path = words_of(file.path, LONGEST_PATH_SHOWN)
        if file.finding:
            found.append(f"{path} {file.finding}.")
        if file.why and served:
            found.append(f"{path} {file.why}. It may be served because the operator allowed it.")
    return tuple(found)
