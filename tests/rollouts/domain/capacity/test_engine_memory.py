"""Memory of one accelerator, beside figures that others published or measured. Each source stands at its test."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.domain.capacity.engine_memory import (
    GIB,
    EngineMemory,
    KvCache,
    MemoryFit,
    MemoryUnknown,
    memory_of,
)
from rollouts.domain.capacity.model_shape import shape_of
from tests.rollouts.domain.capacity.public_models import (
    DEEPSEEK_V3,
    GEMMA_2_9B,
    GEMMA_3_27B,
    LLAMA_8B,
    LLAMA_8B_BYTES,
    LLAMA_405B,
    QWEN_25_7B,
    QWEN_25_72B,
    manifest_of,
    written,
)

H100 = round(79.22 * GIB)
MIB = 1 << 20


def cache_of(config: dict[str, Any], **given: Any) -> KvCache:
    return KvCache(shape_of(written(config)), **{"number_bytes": 2, **given})


def memory(config: dict[str, Any] = LLAMA_8B, size: int = LLAMA_8B_BYTES, **given: Any) -> EngineMemory:
    total = given.pop("total", H100)
    requests = given.pop("requests", 1)
    arguments = {name.replace("_", "-"): value for name, value in given.items()}
    found = memory_of(
        written(config), manifest_of(size), arguments, accelerator_bytes=total, requests=requests
    )
    assert isinstance(found, EngineMemory), found
    return found


def reason(config: bytes | None = None, **given: Any) -> str:
    total, requests = given.pop("total", H100), given.pop("requests", 1)
    arguments = {name.replace("_", "-"): value for name, value in given.items()}
    content = written(LLAMA_8B) if config is None else config
    found = memory_of(content, manifest_of(), arguments, accelerator_bytes=total, requests=requests)
    assert isinstance(found, MemoryUnknown), found
    return found.sentence


# --- published figures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "published"),
    [
        # tooljolt.com, KV-cache calculators, in KiB a token at two bytes: 68.6 of DeepSeek V3, 504.0 of Llama 3.1 405B.
        (DEEPSEEK_V3, 68.6 * 1_024),
        (LLAMA_405B, 504.0 * 1_024),
        # The README of the package kv-cache-size 0.1.0: 128 KiB a token of Llama 3.1 8B.
        (LLAMA_8B, 131_072),
        # vllm-project/vllm, issue 22291: a request of 3,072 tokens took 0.16 GB with Qwen 2.5 7B, measured.
        (QWEN_25_7B, 0.16 * GIB / 3_072),
    ],
)
def test_cache__of_a_token__is_as_published(config: dict[str, Any], published: float) -> None:
    assert cache_of(config, block=1).bytes_of(1, 1) == pytest.approx(published, rel=0.03)


def test_cache__of_a_token__is_what_the_shape_says() -> None:
    by_hand = {
        "deepseek_v3": 61 * (512 + 64) * 2,
        "llama": 2 * 126 * 8 * 128 * 2,
        "qwen2": 2 * 80 * 8 * 128 * 2,
    }
    for config in (DEEPSEEK_V3, LLAMA_405B, QWEN_25_72B):
        assert cache_of(config, block=1).bytes_of(1, 1) == by_hand[config["model_type"]]


def test_cache__llama_with_its_whole_context__takes_16_gib() -> None:
    # The README of kvplan 0.1.1: "one request at max_model_len=131072 needs 16.00 GiB of KV cache".
    assert cache_of(LLAMA_8B).bytes_of(1, 131_072) == 16 * GIB


def test_cache__what_vllm_logged_for_llama__holds_as_many_requests() -> None:
    # vllm-project/vllm, issue 12330: 11.12 GiB are 5,691 blocks, "Maximum concurrency for 8192 tokens: 11.12x".
    cache = cache_of(LLAMA_8B)
    assert cache.most_requests(round(11.12 * GIB), 8_192) == 11
    assert cache.bytes_of(1, 5_691 * 16) == pytest.approx(11.12 * GIB, rel=0.001)


@pytest.mark.parametrize(("context", "gibibytes"), [(131_072, 8.58), (163_840, 10.72), (1 << 20, 68.625)])
def test_cache__deepseek_v3__is_as_others_measured(context: int, gibibytes: float) -> None:
    # provide.ai, "The exact KV cache usage of DeepSeek V4": FP16, measured with llama.cpp at 160k.
    assert cache_of(DEEPSEEK_V3).bytes_of(1, context) == pytest.approx(gibibytes * GIB, rel=0.001)


@pytest.mark.parametrize(("context", "mebibytes"), [(4_096, 1_984), (32_768, 15_872), (131_072, 63_488)])
def test_cache__gemma_3_without_windows__is_as_llama_cpp_had_it(context: int, mebibytes: int) -> None:
    # A table of llama.cpp's users beside its pull request 13194, gemma-3-27b before windows were used.
    assert cache_of(GEMMA_3_27B, all_full=True).bytes_of(1, context) == mebibytes * MIB


def test_cache__gemma_3_with_windows__is_as_llama_cpp_has_it_and_the_engine_groups_it() -> None:
    # The same table: 10,240 MiB for 10 full layers at 128k, 1,248 MiB for 52 layers at a batch of 2,048. vLLM fills the
    # 52 up to 60, six groups of ten.
    found = cache_of(GEMMA_3_27B, in_flight=2_048).bytes_of(1, 131_072)
    assert found == pytest.approx((10_240 + 1_248 * 60 / 52) * MIB, rel=0.01)


def test_memory__llama_on_an_h100__leaves_for_the_cache_what_vllm_measured() -> None:
    # vllm-project/vllm, pull request 10511: weights 14.96 GiB, 71.29 usable, 53.29 left for the cache.
    found = memory(gpu_memory_utilization=0.9)
    assert found.weights == pytest.approx(14.96 * GIB, rel=0.001)
    assert found.usable == pytest.approx(71.29 * GIB, rel=0.001)
    assert found.usable - found.weights - found.overhead == pytest.approx(53.29 * GIB, rel=0.001)


def test_memory__llama_on_two_h100__has_the_weights_that_vllm_measured() -> None:
    # The same: 7.48 GiB on each of two.
    found = memory(gpu_memory_utilization=0.9, tensor_parallel_size=2)
    assert found.weights == pytest.approx(7.48 * GIB, rel=0.001)
    assert found.overhead == pytest.approx((1.26 + 3.58) * GIB, rel=0.001)
    assert found.cache == 8 * GIB


def test_memory__llama_with_its_whole_context_on_an_l4__is_too_large() -> None:
    # The README of kvplan 0.1.1: 22.49 GiB, "vLLM will not start".
    found = memory(total=round(22.49 * GIB))
    assert found.fit is MemoryFit.TOO_LARGE
    assert memory(total=round(22.49 * GIB), max_model_len=8_192).fit is MemoryFit.FITS


# --- what else counts -------------------------------------------------------------------------------------------------


def test_cache__of_compressed_keys__is_kept_by_every_accelerator() -> None:
    assert cache_of(DEEPSEEK_V3, shared=8).token_bytes == cache_of(DEEPSEEK_V3).token_bytes


@pytest.mark.parametrize(("shared", "heads"), [(1, 8), (2, 4), (8, 1), (16, 1)])
def test_cache__heads__are_shared_down_to_one(shared: int, heads: int) -> None:
    assert cache_of(LLAMA_8B, shared=shared).token_bytes == heads * 256 * 2


@pytest.mark.parametrize(("kind", "part"), [("auto", 1), ("bfloat16", 1), ("fp8", 2), ("fp8_e5m2", 2)])
def test_cache__type_of_its_numbers__counts(kind: str, part: int) -> None:
    assert memory(kv_cache_dtype=kind).cache == 16 * GIB // part


def test_cache__windows__stop_growing_with_the_context() -> None:
    cache = cache_of(GEMMA_2_9B, in_flight=2_048)
    grown = cache.bytes_of(1, 65_536) - cache.bytes_of(1, 32_768)
    assert grown == 21 * 32_768 * cache.token_bytes


@pytest.mark.parametrize(
    ("total", "arguments", "in_flight"),
    [
        (H100, {}, 2 * 8_192),
        (24 * GIB, {}, 2 * 2_048),
        (180 * GIB, {}, 2 * 16_384),
        (H100, {"max_num_batched_tokens": 512}, 2 * 512),
    ],
)
def test_cache__windows__keep_what_two_steps_compute(
    total: int, arguments: dict[str, Any], in_flight: int
) -> None:
    found = memory(GEMMA_3_27B, total=total, max_model_len=131_072, **arguments)
    assert found.cache == cache_of(GEMMA_3_27B, in_flight=in_flight).bytes_of(1, 131_072)


def test_cache__windows_that_the_engine_shall_not_use__keep_everything() -> None:
    found = memory(GEMMA_3_27B, max_model_len=32_768, disable_hybrid_kv_cache_manager=True)
    assert found.cache == 15_872 * MIB


@pytest.mark.parametrize(("block", "tokens"), [(None, 1_008), (128, 1_024)])
def test_cache__is_given_out_in_blocks(block: int | None, tokens: int) -> None:
    assert memory(max_model_len=1_000, block_size=block).cache == tokens * 131_072


def test_cache__short_requests__never_take_more_than_without_windows() -> None:
    cache = cache_of(GEMMA_2_9B, in_flight=16_384)
    whole = cache_of(GEMMA_2_9B, all_full=True)
    assert cache.bytes_of(4, 256) <= whole.bytes_of(4, 256 + 16)


def test_requests__most__is_the_largest_number_that_fits() -> None:
    for config in (LLAMA_8B, GEMMA_2_9B, GEMMA_3_27B, DEEPSEEK_V3):
        cache = cache_of(config, in_flight=4_096)
        for left in (0, 1, GIB, 7 * GIB, 100 * GIB):
            most = cache.most_requests(left, 8_192)
            assert most == 0 or cache.bytes_of(most, 8_192) <= left
            assert cache.bytes_of(most + 1, 8_192) > left


def test_weights__wider_type_than_the_files__take_more() -> None:
    assert memory(dtype="float32", max_model_len=1_024).weights == 2 * LLAMA_8B_BYTES


def test_fit__just_below_the_limit__is_for_the_engine_to_find_out() -> None:
    needed = memory(gpu_memory_utilization=1, max_model_len=8_192).needed
    at = lambda total: memory(total=total, gpu_memory_utilization=1, max_model_len=8_192).fit  # noqa: E731
    assert at(needed * 2) is MemoryFit.FITS
    assert at(needed + 1) is MemoryFit.TIGHT
    assert at(needed - GIB) is MemoryFit.TIGHT
    assert at(needed - 4 * GIB) is MemoryFit.TOO_LARGE


def test_sentence__that_fits__has_all_figures() -> None:
    assert memory(gpu_memory_utilization=0.9).sentence == (
        "On one accelerator, it needs 34 GiB: 15 GiB for weights, 16 GiB for the KV cache of 1 request of 131,072 "
        "tokens, and about 3.05 GiB beside them. The engine may take 71.3 GiB of 79.2 GiB: it fits, with room for 3 "
        "such requests at the same time."
    )


def test_sentence__too_large__says_by_how_much_and_what_would_fit() -> None:
    found = memory(gpu_memory_utilization=0.9, requests=5, tensor_parallel_size=1)
    assert found.sentence.endswith("it does not fit; 26.7 GiB are missing, and 3 such requests would fit.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pipeline_parallel_size": 2}, "dealt out"),
        ({"cpu_offload_gb": 4}, "lies elsewhere"),
        ({"num_gpu_blocks_override": 100}, "another size"),
        ({"kv_cache_memory_bytes": 1 << 30}, "a size of its own"),
        ({"load_format": "mistral"}, "other files"),
        ({"quantization": "fp8"}, "quantize the weights itself"),
        ({"tensor_parallel_size": 3}, "cannot be shared"),
        ({"tensor_parallel_size": 0}, "tensor-parallel-size"),
        ({"tensor_parallel_size": -2}, "tensor-parallel-size"),
        ({"gpu_memory_utilization": float("nan")}, "gpu-memory-utilization"),
        ({"gpu_memory_utilization": 1.5}, "gpu-memory-utilization"),
        ({"gpu_memory_utilization": "much"}, "gpu-memory-utilization"),
        ({"max_model_len": -1}, "max-model-len"),
        ({"max_model_len": 1 << 60}, "max-model-len"),
        ({"kv_cache_dtype": "int2"}, "int2"),
        ({"kv_cache_dtype": ["fp8"]}, "a list"),
        ({"dtype": {}}, "an object"),
        ({"requests": 0}, "number of requests"),
        ({"total": 0}, "accelerator's memory"),
        ({"total": -5}, "accelerator's memory"),
    ],
)
def test_memory__that_cannot_be_computed__says_why(arguments: dict[str, Any], words: str) -> None:
    assert words in reason(**arguments)


def test_memory__float32_in_the_config__is_not_guessed() -> None:
    assert "float32" in reason(written(LLAMA_8B, torch_dtype="float32"))


def test_memory__quantized_weights_in_a_wider_type__are_not_guessed() -> None:
    quantized = written(LLAMA_8B, quantization_config={"quant_method": "awq", "bits": 4})
    assert "quantized weights" in reason(quantized, dtype="float32")


def test_memory__length_that_the_config_does_not_say__asks_for_it() -> None:
    assert "Set max-model-len" in reason(written(DEEPSEEK_V3))
    assert (
        memory(DEEPSEEK_V3, 688 * 10**9, max_model_len=4_096, tensor_parallel_size=8).fit
        is MemoryFit.TOO_LARGE
    )


def test_memory__cache_type_in_the_files__asks_for_it() -> None:
    fp8 = {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}
    assert "Set kv-cache-dtype" in reason(written(LLAMA_8B, quantization_config=fp8))


def test_memory__unknown_kind_of_model__is_said_in_one_sentence() -> None:
    assert reason(written(LLAMA_8B, model_type="mamba2")) == (
        "How much memory it needs is not known. The model_type 'mamba2' is not one whose memory is known."
    )
