"""Code in every dress: contents that may be served under no name. Made here, never loaded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import marshal
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from importlib.util import MAGIC_NUMBER

from tests.factories.weights import safetensors


class Calls:
    """Its pickle calls `print` when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("loaded",)


def zipped(files: Mapping[str, bytes], comment: bytes = b"") -> bytes:
    """A zip archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.comment = comment
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    """A tar archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def pickle_in_tensors() -> bytes:
    """A safetensors file whose tensor is a zip archive: readers of zip look at the end of a file."""
    return safetensors(zipped({"__main__.py": b"print()"}))


def pickle_and_safetensors() -> bytes:
    """Both at once: the header's length reads as opcode X, which skips into a text of hops (U), which lead to a call
    in the tensor's bytes. A scanner of others passed such a file (promptfoo/modelaudit, pull request 1612)."""
    for hops in range(7500, 7900):
        for lead in range(100):
            data = b"N" * lead + SYSTEM_CALL
            tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
            header = json.dumps(
                {"__metadata__": {"a": "U" * hops}, "w": tensor}, separators=(",", ":")
            ).encode()
            if len(header) % 256 != ord("X"):
                break
            made = len(header).to_bytes(8, "little") + header + data
            place = 5 + (len(header) >> 8)
            while made[place : place + 1] == b"U":
                place += 2 + made[place + 1]
            if made[place:] in (data, SYSTEM_CALL):
                return made
    raise AssertionError("no length fits")


PICKLE = pickle.dumps(Calls(), protocol=2)
TORCH = zipped({"archive/data.pkl": PICKLE, "archive/version": b"3"})
# By hand, as an attacker would: `pickle` itself writes protocol 0 in the same way.
SYSTEM_CALL = b"cposix\nsystem\n(S'id'\ntR."

DUAL = pickle_and_safetensors()

NEVER_SERVED: Mapping[str, bytes] = {
    **{f"pickle, protocol {p}": pickle.dumps(Calls(), protocol=p) for p in (0, 2, 3, 4, 5)},
    "pickle by hand": SYSTEM_CALL,
    "pickle that calls late": b"(lp0\nI1\na0" + SYSTEM_CALL,
    "pickle with INST": b"(S'id'\niposix\nsystem\n.",
    "pickle of data": pickle.dumps({"weights": [1.0, 2.0]}),
    "torch": TORCH,
    "torch, old": b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + PICKLE,
    "joblib, zlib": zlib.compress(PICKLE * 20),
    "numpy of objects": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    + PICKLE,
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "zip": zipped({"a.txt": b"a"}),
    "zip, empty": zipped({}),
    "zip behind a text": b'{"a": 1}' + zipped({"__main__.py": b"print()"}),
    "zip with a comment": b"text\n" + zipped({"a": b"a"}, comment=b"PK\x05\x06 says nothing"),
    "tar": tarred({"a.txt": b"a"}),
    "gzip": gzip.compress(b"text"),
    "bzip2": bz2.compress(b"text"),
    "bzip2, empty": bz2.compress(b""),
    "xz": lzma.compress(b"text"),
    "lzma": lzma.compress(b"text", format=lzma.FORMAT_ALONE),
    "7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(32),
    "zstd": b"\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00",
    "cpio": b"070701" + b"0" * 104,
    "elf": b"\x7fELF\x02\x01\x01" + bytes(64),
    "pe": b"MZ\x90\x00" + bytes(56) + b"\x40\x00\x00\x00PE\x00\x00" + bytes(64),
    "mach-o": b"\xcf\xfa\xed\xfe" + bytes(64),
    "mach-o, fat": b"\xca\xfe\xba\xbe" + bytes(64),
    "wasm": b"\x00asm\x01\x00\x00\x00",
    "ar": b"!<arch>\n" + bytes(32),
    "shebang": b"#!/bin/sh\nid\n",
    "compiled python": MAGIC_NUMBER + bytes(12) + marshal.dumps(compile("1", "a", "eval")),
    "gguf": b"GGUF\x03\x00\x00\x00" + bytes(32),
    "safetensors and zip": pickle_in_tensors(),
    "safetensors and pickle": DUAL,
}
