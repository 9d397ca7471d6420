from __future__ import annotations

import contextlib
import io
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.domain.contents import classify, classify_folder
from registry.domain.formats import FormatKind, FormatVerdict
from registry.domain.manifest import take_manifest
from registry.domain.safetensors_header import check_safetensors
from registry.domain.texts import LARGEST_TEXT
from tests.factories.weights import safetensors
from tests.registry.domain.dressed_up import DUAL, NEVER_SERVED, PICKLE, SYSTEM_CALL

PIECES = (
    b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02\x12\x04\x0a\x02en"  # one piece and a trainer's field
)
DATA = {
    "model.safetensors": (safetensors(), FormatKind.WEIGHTS),
    "model-00001-of-00002.SAFETENSORS": (safetensors(), FormatKind.WEIGHTS),
    "config.json": (b'{"model_type": "llama"}', FormatKind.CONFIGURATION),
    "generation_config.json": (b"{}", FormatKind.CONFIGURATION),
    "model.safetensors.index.json": (b'{"weight_map": {}}', FormatKind.CONFIGURATION),
    "input_example.json": (b"[1, 2]", FormatKind.CONFIGURATION),
    "tokenizer.json": (b"{}", FormatKind.TOKENIZER),
    "tokenizer_config.json": (b"{}", FormatKind.TOKENIZER),
    "components/tokenizer/special_tokens_map.json": (b"{}", FormatKind.TOKENIZER),
    "tokenizer.model": (PIECES, FormatKind.TOKENIZER),
    "original/tokenizer.model": (b"IQ== 0\nIg== 1\n", FormatKind.TOKENIZER),
    "tokenizer.model.v7m1": (PIECES, FormatKind.TOKENIZER),
    "spiece.model": (PIECES, FormatKind.TOKENIZER),
    "qwen.tiktoken": (b"IQ== 0\nIg== 1", FormatKind.TOKENIZER),
    "merges.txt": ("#version: 0.2\nĠ t\n".encode(), FormatKind.TOKENIZER),
    "vocab.txt": ("[PAD]\nü\n".encode(), FormatKind.TOKENIZER),
    "chat_template.jinja": (b"{% for m in messages %}{{ m }}{% endfor %}", FormatKind.TEMPLATE),
    "chat_template.json": (b'{"chat_template": ""}', FormatKind.TEMPLATE),
    "MLmodel": (
        b"artifact_path: model\nflavors:\n  transformers:\n    task: text-generation\n",
        FormatKind.CONFIGURATION,
    ),
    "conda.yaml": (b"channels:\n- conda-forge\ndependencies:\n- python=3.11\n", FormatKind.CONFIGURATION),
    "python_env.yaml": (b"python: 3.11.2\n", FormatKind.CONFIGURATION),
    "requirements.txt": (b"mlflow==3.1\n", FormatKind.CONFIGURATION),
    "README.md": ("# Über\n".encode(), FormatKind.DOCUMENT),
    "LICENSE": (b"Apache", FormatKind.DOCUMENT),
    "LICENSE-MODEL": (b"Apache", FormatKind.DOCUMENT),
    "USE_POLICY.md": (b"be kind", FormatKind.DOCUMENT),
    "model_card_data.yaml": (b"license: mit\ntags: [a, b]\n", FormatKind.CONFIGURATION),
    ".gitattributes": (b"*.safetensors filter=lfs\n", FormatKind.DOCUMENT),
    "figure.png": (b"\x89PNG\r\n\x1a\n" + bytes(20), FormatKind.DOCUMENT),
    "photo.JPG": (b"\xff\xd8\xff\xe0" + bytes(20), FormatKind.DOCUMENT),
}
NAMES = (
    *DATA, "model.bin", "x.pt", "a.pkl", "python_model.pkl", "modeling_x.py", "lib.so", "a", "a.b.c", ".json", "json",
    "weights.safetensors.bak", "a.onnx", "model.gguf", "LICENSE.exe", "config.json ", "MLmodel/evil",
)  # fmt: skip


def look(path: str, content: bytes) -> FormatVerdict:
    return classify(path, io.BytesIO(content))


@pytest.mark.parametrize("path", DATA)
def test_classify__data_under_its_name__of_its_kind(path: str) -> None:
    content, kind = DATA[path]
    assert look(path, content) == FormatVerdict(kind)


@pytest.mark.parametrize("what", NEVER_SERVED)
def test_classify__code_under_any_name__refused(what: str) -> None:
    accepted = [name for name in NAMES if not look(name, NEVER_SERVED[what]).why]
    assert accepted == []


@pytest.mark.parametrize(
    ("path", "content", "kind", "words"),
    [
        ("model.safetensors", PICKLE, FormatKind.PICKLE, "is a pickle, which runs code when it is loaded"),
        ("config.json", NEVER_SERVED["torch"], FormatKind.PICKLE, "is a PyTorch file, a zip archive with a pickle"),
        ("vocab.txt", SYSTEM_CALL, FormatKind.PICKLE, "is a pickle in plain text"),
        ("README.md", b"#!/bin/sh\n", FormatKind.CODE, "is a script"),
        ("modeling_x.py", b"import os\n", FormatKind.CODE, "is Python source"),
        ("empty.py", b"", FormatKind.CODE, "is Python source"),
        ("model.bin", b"x", FormatKind.PICKLE, "is a file that may hold pickled code"),
        ("model.onnx", b"\x08\x07", FormatKind.UNKNOWN, "is of no kind that is known to be data"),
        ("weights", b"x", FormatKind.UNKNOWN, "is of no kind that is known to be data"),
        ("config.json", b"{", FormatKind.DAMAGED, "is no JSON file: it is not JSON"),
        ("config.json", "{}".encode("utf-16"), FormatKind.DAMAGED, "is no JSON file: it is not UTF-8 text"),
        ("MLmodel", b"a: !!python/object/apply:os.system [id]", FormatKind.DAMAGED, "asks for an object of the type"),
        ("README.md", b"a\x00b", FormatKind.DAMAGED, "is no text file: it holds the control character 0x00"),
        ("a.png", b"GIF", FormatKind.DAMAGED, "is no PNG, JPEG, GIF or WebP image"),
        ("tokenizer.model", b"words", FormatKind.DAMAGED, "is neither a SentencePiece model nor a tiktoken list"),
        (
            "model.safetensors", safetensors() + b"!", FormatKind.DAMAGED,
            "is no safetensors file: its tensors have 7 bytes",
        ),
    ],
)  # fmt: skip
def test_classify__not_data__says_what_it_is(path: str, content: bytes, kind: FormatKind, words: str) -> None:
    found = look(path, content)
    assert found.kind is kind
    assert words in found.why


@given(st.sampled_from(NAMES) | st.text(max_size=30), st.binary(max_size=600))
@example("a.json", b"[" * 100_000)
@example("a.json", b'{"a": ' + b"9" * 5000 + b"}")
@example("a.yaml", b"[" * 100_000)
@example("a.yaml", b"&a [" + b"*a, " * 10 + b"]")
@example("\x00/\ud800.md", b"")
def test_classify__any_name_and_any_bytes__a_class_and_no_error(path: str, content: bytes) -> None:
    found = look(path, content)
    assert bool(found.why) == (
        found.kind
        in (FormatKind.CODE, FormatKind.PICKLE, FormatKind.ARCHIVE, FormatKind.DAMAGED, FormatKind.UNKNOWN)
    )
    assert (found.why + found.finding).isprintable()


@given(st.sampled_from([*DATA]), st.binary(min_size=1, max_size=40))
def test_classify__weights_with_anything_behind_them__refused(path: str, behind: bytes) -> None:
    assert look("model.safetensors", safetensors() + behind).why


@given(st.sampled_from(sorted(NEVER_SERVED)), st.sampled_from(NAMES) | st.text(max_size=20))
def test_classify__code_renamed__never_accepted(what: str, path: str) -> None:
    assert look(path, NEVER_SERVED[what]).why


OPCODES = (
    "cposix\nsystem\n", "iposix\nsystem\n", "(", "S'id'\n", "I1\n", "t", "R", "b", "o", "0", "1", "2", "p0\n", "g0\n",
    ")", "}", "]", "N", "a", "l", "d", "s", "u", "e", ".",
)  # fmt: skip


@given(st.lists(st.sampled_from(OPCODES), max_size=14).map("".join))
def test_classify__text_of_pickle_opcodes__data_only_if_loading_it_calls_nothing(text: str) -> None:
    if look("vocab.txt", text.encode()).why:
        return
    assert calls_when_loaded(text.encode()) == []


def calls_when_loaded(data: bytes) -> list[str]:
    """What loading a pickle would call; nothing of it is called."""
    called: list[str] = []

    class Watching(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            return lambda *arguments: called.append(f"{module}.{name}{arguments}")

    with contextlib.suppress(Exception):
        Watching(io.BytesIO(data)).load()
    return called


def test_classify__right_safetensors_file_that_is_a_pickle_too__refused_as_a_pickle() -> None:
    check_safetensors(io.BytesIO(DUAL), len(DUAL))
    assert calls_when_loaded(DUAL) == ["posix.system('id',)"]
    assert look("model.safetensors", DUAL).why == "is a safetensors file and a pickle at once"


def test_classify__large_text__refused_without_being_read() -> None:
    class Huge(io.BytesIO):
        read_bytes = 0

        def seek(self, to: int, whence: int = 0) -> int:
            return LARGEST_TEXT + 1 if whence else super().seek(min(to, 1))

        def read(self, size: int | None = -1) -> bytes:
            self.read_bytes += size or 0
            return b"{}"

    content = Huge(b"{}")
    assert "at most" in classify("tokenizer.json", content).why
    assert content.read_bytes < 1_000_000


def test_classify__auto_map__named_and_still_data() -> None:
    config = {"auto_map": {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.X"}}
    found = look("config.json", json.dumps(config).encode())
    assert (found.kind, found.why) == (FormatKind.CONFIGURATION, "")
    assert "auto_map: AutoConfig, AutoModelForCausalLM" in found.finding
    assert "engines never run a version's code" in found.finding


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "preprocessor_config.json", "processor_config.json"]
)
def test_classify__auto_map_deep_in_a_tokenizers_or_processors_config__named(name: str) -> None:
    assert "auto_map" in look(name, b'{"parts": [{"auto_map": "a.B"}]}').finding


def test_classify__auto_map_in_another_document__no_finding() -> None:
    assert look("vocab.json", b'{"auto_map": 7}').finding == ""


def test_classify_folder__every_file_of_the_manifest__by_path(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.py").write_bytes(b"1")
    (tmp_path / "model.safetensors").write_bytes(safetensors())
    found = classify_folder(tmp_path, take_manifest(tmp_path))
    assert [(file.path, file.kind) for file in found] == [
        ("model.safetensors", FormatKind.WEIGHTS),
        ("sub/a.py", FormatKind.CODE),
    ]
