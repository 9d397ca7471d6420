"""What programs, archives and pickles look like, whatever their names say. Pure; nothing is unpacked or loaded.

This list makes the refusal's words exact and catches what is dressed up as a text; it is not what keeps unknown
formats out (`contents` serves only what it knows).
"""

from __future__ import annotations

import io
import pickletools
import re

from registry.domain.formats import FormatKind, FormatVerdict

HEAD_BYTES = 64 * 1024
TAIL_BYTES = 22 + 65535  # the end record of a zip archive, with the longest comment
NEWEST_PROTOCOL = 15  # of pickles; 5 is the newest one today
PICKLE_STEPS = 10_000
RUNS = "which runs code when it is loaded"

_PROGRAMS = (
    (b"\x7fELF", "is a program or a shared library (ELF)"),
    (b"#!", "is a script (it begins with #!)"),
    (b"\xca\xfe\xba\xbe", "is a program (Mach-O or Java)"),
    (b"\xfe\xed\xfa\xce", "is a program (Mach-O)"),
    (b"\xfe\xed\xfa\xcf", "is a program (Mach-O)"),
    (b"\xce\xfa\xed\xfe", "is a program (Mach-O)"),
    (b"\xcf\xfa\xed\xfe", "is a program (Mach-O)"),
    (b"\x00asm", "is a program (WebAssembly)"),
    (b"BC\xc0\xde", "is compiled code (LLVM)"),
    (b"!<arch>\n", "is a library (ar)"),
    (b"\x1bLua", "is compiled code (Lua)"),
    (b"dex\n0", "is compiled code (Android)"),
)
_ARCHIVES = (
    (b"\x1f\x8b", "gzip"),
    (b"\x1f\x9d", "compress"),
    (b"\x1f\xa0", "compress"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"MSCF\x00", "cab"),
)
_ZIP_HEADS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_ZIP_END = b"PK\x05\x06"
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)")
_CPIO = re.compile(rb"07070[17][0-9A-Fa-f]{20}")
_ZLIB = (b"\x78\x01", b"\x78\x9c", b"\x78\xda")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NUMPY = b"\x93NUMPY"
_GGUF = re.compile(rb"GGUF(?:[\x01-\x0f]\x00\x00\x00|\x00\x00\x00[\x01-\x0f])")
_TORCH_OLD = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # a pickle of torch's magic number
_CALLS = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
_NAMES = frozenset({"GLOBAL", "STACK_GLOBAL", "INST"})
_MODULE = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*")


def signature_of(head: bytes, tail: bytes) -> FormatVerdict | None:
    """What a file is that no engine may be given, by its first HEAD_BYTES and last TAIL_BYTES; None: nothing known."""
    for found in (_program(head), _pickle(head), _archive(head, tail)):
        if found is not None:
            return found
    if head.startswith(_HDF5):
        return FormatVerdict(FormatKind.CODE, "is an HDF5 file, in which Keras keeps layers with code")
    if head.startswith(_NUMPY):
        if b"'descr': '|O'" in head or b'"O"' in head:
            return FormatVerdict(FormatKind.PICKLE, f"is a NumPy file of pickled objects, {RUNS}")
        return FormatVerdict(FormatKind.UNKNOWN, "is a NumPy file, from which no engine loads a model")
    if _GGUF.match(head):
        return FormatVerdict(
            FormatKind.UNKNOWN, "is a GGUF file, which the engine does not load from a version's folder"
        )
    return None


def ends_as_zip(tail: bytes) -> bool:
    """Whether a file can be opened as a zip archive, whatever it begins with: readers look for the end record."""
    at = tail.rfind(_ZIP_END)
    while at >= 0:
        if at + 22 <= len(tail) and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return True
        at = tail.rfind(_ZIP_END, 0, at)
    return False


def is_pickle_that_calls(data: bytes) -> bool:
    """Whether loading `data` as a pickle would call something, by the first PICKLE_STEPS opcodes.

    Steps through the opcodes without running them, with the depth of the stack, so that a text is not taken for a
    pickle because its lines begin with the right letters. Protocol 0 is plain ASCII.
    """
    depth: list[bool] = []  # a place of the stack each; True is a mark
    names = False
    steps = 0
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
            steps += 1
            before, after = opcode.stack_before, opcode.stack_after
            if opcode.name in ("GLOBAL", "INST") and not _MODULE.fullmatch(str(argument)):
                return False
            if pickletools.markobject in before:
                while depth and not depth[-1]:
                    depth.pop()
                if not depth:
                    return False
                depth.pop()
                # What a list or a dictionary takes from the stack lies below the mark.
                below = before.index(pickletools.markobject)
            else:
                below = len(before)
            if below > len(depth):
                return False
            del depth[len(depth) - below :]
            names = names or opcode.name in _NAMES
            if names and opcode.name in _CALLS:
                return True
            depth.extend(item is pickletools.markobject for item in after)
            if steps > PICKLE_STEPS:
                return names
    except Exception:
        # genops raises what it likes for bytes that are no pickle.
        return False
    return False


def _program(head: bytes) -> FormatVerdict | None:
    for magic, words in _PROGRAMS:
        if head.startswith(magic):
            return FormatVerdict(FormatKind.CODE, words)
    if head.startswith(b"MZ") and (b"\x00" in head[:64] or b"PE\x00\x00" in head):
        return FormatVerdict(FormatKind.CODE, "is a program or a library (Windows)")
    # The numbers of Python 3 (3000 to 4095) are no text, those of Python 2 neither.
    if len(head) >= 16 and head[2:4] == b"\r\n" and (head[1] in range(0x0B, 0x10) or head[1] >= 0xF0):
        return FormatVerdict(FormatKind.CODE, "is compiled Python code")
    return None


def _pickle(head: bytes) -> FormatVerdict | None:
    if head.startswith(_TORCH_OLD):
        return FormatVerdict(FormatKind.PICKLE, f"is a PyTorch file in the old format, a pickle, {RUNS}")
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= NEWEST_PROTOCOL:
        return FormatVerdict(FormatKind.PICKLE, f"is a pickle, {RUNS}")
    if is_pickle_that_calls(head):
        return FormatVerdict(FormatKind.PICKLE, f"is a pickle in plain text, {RUNS}")
    return None


def _archive(head: bytes, tail: bytes) -> FormatVerdict | None:
    if head.startswith(_ZIP_HEADS):
        if b"data.pkl" in head or b"data.pkl" in tail:
            return FormatVerdict(FormatKind.PICKLE, f"is a PyTorch file, a zip archive with a pickle, {RUNS}")
        return FormatVerdict(FormatKind.ARCHIVE, "is a zip archive; what is inside is not looked into")
    if ends_as_zip(tail):
        return FormatVerdict(FormatKind.ARCHIVE, "is also a zip archive: one is hung on at its end")
    for magic, name in _ARCHIVES:
        if head.startswith(magic):
            return FormatVerdict(
                FormatKind.ARCHIVE, f"is compressed or an archive ({name}); what is inside is not looked into"
            )
    for pattern, name in ((_BZIP2, "bzip2"), (_CPIO, "cpio")):
        if pattern.match(head):
            return FormatVerdict(
                FormatKind.ARCHIVE, f"is compressed or an archive ({name}); what is inside is not looked into"
            )
    if head.startswith(_ZLIB):
        return FormatVerdict(
            FormatKind.ARCHIVE, "is compressed (zlib, as joblib writes); what is inside is not looked into"
        )
    if head[257:262] == b"ustar":
        return FormatVerdict(FormatKind.ARCHIVE, "is a tar archive; what is inside is not looked into")
    return None
