"""What the logs of engines that ended mean."""

from __future__ import annotations

import pytest

from rollouts.adapters.clusters.engines import ENGINES, explain
from rollouts.domain.engines import FailureReason

VLLM = ENGINES["vllm"]


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
        ("api_server.py: error: unrecognized arguments: --nope", FailureReason.BAD_SPEC),
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
