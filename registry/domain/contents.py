"""The class of a file by its name and its content: an allowlist of what engines and MLflow read as data.

The name says what a file must be, because engines choose files by name; the content must then be that. Reads at most
the header of weights, the whole of a text up to LARGEST_TEXT, and the two ends of anything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from controlplane.kernel.foreign import words_of
from registry.domain.formats import FileClass, FormatKind, FormatVerdict
from registry.domain.manifest import Manifest
from registry.domain.safetensors_header import check_safetensors
from registry.domain.signatures import (
    HEAD_BYTES,
    TAIL_BYTES,
    ends_as_zip,
    is_pickle_that_calls,
    signature_of,
)
from registry.domain.texts import (
    LARGEST_TEXT,
    NotThat,
    check_vocabulary,
    check_yaml,
    checked_text,
    keys_of,
    parse_json,
)

# transformers loads these names' values as Python code that lies beside the file or on a hub.
REMOTE_CODE = ("auto_map", "custom_pipelines")
CLASSES_SHOWN = 4
LONGEST_CLASS_SHOWN = 60

ContentCheck = Callable[[bytes], str]
"""Gets a whole file; returns a finding, mostly "". Raises NotThat."""


@dataclass(frozen=True, slots=True)
class _Format:
    kind: FormatKind
    words: str  # after "no" in a sentence
    check: ContentCheck


def _text(data: bytes) -> str:
    checked_text(data)
    return ""


def _json(data: bytes) -> str:
    parse_json(data)
    return ""


def _model_config(data: bytes) -> str:
    """JSON, and whether it asks for code of its own."""
    wanted = [f"{name}: {_shown(value)}" for name, value in keys_of(parse_json(data)) if name in REMOTE_CODE]
    if not wanted:
        return ""
    return (
        f"asks for code of its own ({'; '.join(sorted(wanted)[:CLASSES_SHOWN])}); engines never run a version's code, "
        "so it may not load or not answer as expected"
    )


def _yaml(data: bytes) -> str:
    check_yaml(data)
    return ""


def _vocabulary(data: bytes) -> str:
    check_vocabulary(data)
    return ""


def _image(data: bytes) -> str:
    if not _IMAGE.match(data):
        raise NotThat("its content is another")
    return ""


_IMAGE = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff[\xc0-\xfe]|GIF8[79]a|RIFF....WEBPVP8[ LX]", re.DOTALL)
_PLAIN_NAME = re.compile(
    r"(licen[cs]e|notice|copying|copyright|readme|authors|changelog|([a-z]+_)*use_policy)([-_][a-z0-9_-]*)?"
)
_VOCABULARY_NAME = re.compile(r".+\.model(\.v\d+(m\d+)?)?")
_TOKENIZER_JSON = frozenset({
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "tekken.json", "normalizer.json",
})  # fmt: skip
_TOKENIZER_TEXTS = frozenset({"merges.txt", "vocab.txt"})
_MLFLOW_YAML = frozenset({"mlmodel", "registered_model_meta"})
_MLFLOW_TEXTS = frozenset({"requirements.txt", "constraints.txt", "environment_variables.txt"})
_HIDDEN_TEXTS = frozenset({".gitattributes", ".gitignore", "cachedir.tag"})
# .metadata and .lock are what the downloader of the Hugging Face hub leaves in a folder.
_DOCUMENT_SUFFIXES = frozenset(
    {".md", ".rst", ".txt", ".csv", ".tsv", ".jsonl", ".cff", ".metadata", ".lock"}
)
_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})
_TEMPLATE_SUFFIXES = frozenset({".jinja", ".jinja2"})
_CODE_SUFFIXES = {
    ".py": "Python source", ".pyc": "compiled Python", ".pyi": "Python source", ".ipynb": "a notebook with code",
    ".so": "a shared library", ".dll": "a shared library", ".dylib": "a shared library", ".pyd": "a shared library",
    ".exe": "a program", ".sh": "a script", ".bash": "a script", ".bat": "a script", ".ps1": "a script",
    ".js": "a script", ".cu": "source code", ".c": "source code", ".cpp": "source code", ".h": "source code",
    ".pth": "a file that may hold pickled code", ".pt": "a file that may hold pickled code",
    ".bin": "a file that may hold pickled code", ".ckpt": "a file that may hold pickled code",
    ".pkl": "a pickle by its name", ".pickle": "a pickle by its name", ".joblib": "a pickle by its name",
}  # fmt: skip


def classify_folder(folder: Path, manifest: Manifest) -> tuple[FileClass, ...]:
    """The class of every file of the manifest, by path. Raises OSError when one cannot be read."""
    classes = []
    for entry in manifest.entries:
        with (folder / entry.path).open("rb") as content:
            classes.append(FileClass.of(entry.path, classify(entry.path, content)))
    return tuple(classes)


def classify(path: str, content: BinaryIO) -> FormatVerdict:
    """What a file is. `content` must be seekable. Raises nothing for any bytes and any name but what reading raises."""
    size = content.seek(0, SEEK_END)
    content.seek(0)
    head = content.read(HEAD_BYTES)
    content.seek(max(0, size - TAIL_BYTES))
    tail = content.read(TAIL_BYTES)
    name = PurePosixPath(path).name.lower()
    suffix = PurePosixPath(name).suffix
    if suffix == ".safetensors":
        return _weights(content, size, head, tail)
    found = signature_of(head, tail)
    if found is not None:
        return found
    expected = _format_of(name, suffix)
    if expected is None:
        if suffix in _CODE_SUFFIXES:
            kind = FormatKind.PICKLE if "pickle" in _CODE_SUFFIXES[suffix] else FormatKind.CODE
            return FormatVerdict(kind, f"is {_CODE_SUFFIXES[suffix]}")
        return FormatVerdict(FormatKind.UNKNOWN, "is of no kind that is known to be data")
    if size > LARGEST_TEXT:
        return FormatVerdict(
            FormatKind.DAMAGED,
            f"is no {expected.words}: it has {size} bytes, at most {LARGEST_TEXT} are read",
        )
    content.seek(0)
    try:
        return FormatVerdict(expected.kind, finding=expected.check(content.read(LARGEST_TEXT)))
    except NotThat as problem:
        return FormatVerdict(FormatKind.DAMAGED, f"is no {expected.words}: {problem}")


def _weights(content: BinaryIO, size: int, head: bytes, tail: bytes) -> FormatVerdict:
    try:
        check_safetensors(content, size)
    except NotThat as problem:
        # What it is instead, where that is known: a renamed pickle is told as one.
        return signature_of(head, tail) or FormatVerdict(
            FormatKind.DAMAGED, f"is no safetensors file: {problem}"
        )
    # The first bytes are a length, which may look like anything; only what really works as something else counts.
    if is_pickle_that_calls(head):
        return FormatVerdict(FormatKind.PICKLE, "is a safetensors file and a pickle at once")
    if ends_as_zip(tail):
        return FormatVerdict(FormatKind.ARCHIVE, "is a safetensors file and a zip archive at once")
    return FormatVerdict(FormatKind.WEIGHTS)


def _format_of(name: str, suffix: str) -> _Format | None:
    """What a file of this name must be; None for a name that is not known to be one of data."""
    if suffix == ".json":
        check = _model_config if name.endswith("config.json") else _json
        if name == "chat_template.json":
            return _Format(FormatKind.TEMPLATE, "JSON file", check)
        if name in _TOKENIZER_JSON:
            return _Format(FormatKind.TOKENIZER, "JSON file", check)
        return _Format(FormatKind.CONFIGURATION, "JSON file", check)
    if suffix in (".yaml", ".yml") or name in _MLFLOW_YAML:
        return _Format(FormatKind.CONFIGURATION, "YAML file", _yaml)
    if _VOCABULARY_NAME.fullmatch(name) or suffix in (".tiktoken", ".spm"):
        return _Format(FormatKind.TOKENIZER, "tokenizer file", _vocabulary)
    if suffix in _TEMPLATE_SUFFIXES:
        return _Format(FormatKind.TEMPLATE, "template", _text)
    if name in _TOKENIZER_TEXTS:
        return _Format(FormatKind.TOKENIZER, "text file", _text)
    if name in _MLFLOW_TEXTS:
        return _Format(FormatKind.CONFIGURATION, "text file", _text)
    if suffix in _IMAGE_SUFFIXES:
        return _Format(FormatKind.DOCUMENT, "PNG, JPEG, GIF or WebP image", _image)
    if suffix in _DOCUMENT_SUFFIXES or name in _HIDDEN_TEXTS:
        return _Format(FormatKind.DOCUMENT, "text file", _text)
    if not suffix and _PLAIN_NAME.fullmatch(name):
        return _Format(FormatKind.DOCUMENT, "text file", _text)
    return None


def _shown(value: object) -> str:
    """The classes that a value of REMOTE_CODE names, printable and short."""
    names = sorted(str(key) for key in value) if isinstance(value, dict) else [str(value)]
    shown = ", ".join(words_of(name, LONGEST_CLASS_SHOWN) for name in names[:CLASSES_SHOWN])
    return shown + (", ..." if len(names) > CLASSES_SHOWN else "")
