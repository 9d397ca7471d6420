"""Shapes of public models, and everything that is no config.json whose memory is known."""

from __future__ import annotations

import random
from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.capacity.model_shape import LARGEST_CONFIG, shape_of
from tests.rollouts.domain.capacity.public_models import (
    DEEPSEEK_V3,
    GEMMA_2_9B,
    GEMMA_3_27B,
    LLAMA_8B,
    QWEN_25_7B,
    written,
)

MISTRAL = LLAMA_8B | {"model_type": "mistral", "rope_scaling": None, "sliding_window": 4096}


@pytest.mark.parametrize(
    ("config", "full", "windowed", "window", "heads", "numbers"),
    [
        (LLAMA_8B, 32, 0, 0, 8, 256),
        (QWEN_25_7B, 28, 0, 0, 4, 256),
        (DEEPSEEK_V3, 61, 0, 0, 0, 576),
        (GEMMA_2_9B, 21, 21, 4096, 8, 512),
        (GEMMA_3_27B, 10, 52, 1024, 16, 256),
        (MISTRAL, 0, 32, 4096, 8, 256),
        (MISTRAL | {"sliding_window": None}, 32, 0, 0, 8, 256),
    ],
)
def test_shape__public_model__has_its_layers(
    config: dict[str, Any], full: int, windowed: int, window: int, heads: int, numbers: int
) -> None:
    shape = shape_of(written(config))
    assert (shape.full_layers, shape.window_layers, shape.window) == (full, windowed, window)
    assert (shape.heads, shape.head_numbers) == (heads, numbers)
    assert shape.number_bytes == 2


def test_shape__layers_listed__are_counted_as_listed() -> None:
    kinds = ["sliding_attention"] * 40 + ["full_attention"] * 2
    shape = shape_of(written(GEMMA_2_9B, layer_types=kinds))
    assert (shape.full_layers, shape.window_layers) == (2, 40)


def test_shape__another_pattern_of_windows__counts() -> None:
    text = GEMMA_3_27B["text_config"] | {"sliding_window_pattern": 4}
    shape = shape_of(written(GEMMA_3_27B, text_config=text))
    assert (shape.full_layers, shape.window_layers) == (15, 47)


def test_longest__positions_by_kind_of_layer__is_not_known() -> None:
    nested = {
        "full_attention": {"rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_type": "default"},
    }
    assert shape_of(written(LLAMA_8B, rope_scaling=None, rope_parameters=nested)).longest is None


def test_shape__head_dim_beside_another_hidden_size__counts() -> None:
    assert shape_of(written(LLAMA_8B, head_dim=64)).head_numbers == 128


def test_longest__plain_positions__is_what_the_config_says() -> None:
    assert shape_of(written(LLAMA_8B)).longest == 131_072


@pytest.mark.parametrize("config", [DEEPSEEK_V3, GEMMA_3_27B])
def test_longest__stretched_positions__is_not_known(config: dict[str, Any]) -> None:
    assert shape_of(written(config)).longest is None


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}},
        {"quant_method": "modelopt", "quantization": {"kv_cache_quant_algo": "FP8"}},
    ],
)
def test_cache_type__set_by_the_files__is_seen(quantization: dict[str, Any]) -> None:
    shape = shape_of(written(LLAMA_8B, quantization_config=quantization))
    assert (shape.quantized, shape.cache_type) == (True, True)


def test_quantization__of_the_weights_only__leaves_the_cache_alone() -> None:
    shape = shape_of(written(DEEPSEEK_V3))
    assert (shape.quantized, shape.cache_type) == (True, False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba2"}, "mamba2"),
        ({"model_type": None}, "model_type is missing"),
        ({"model_type": 7}, "no text"),
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": -32}, "num_hidden_layers"),
        ({"num_hidden_layers": float("nan")}, "num_hidden_layers"),
        ({"num_hidden_layers": float("inf")}, "num_hidden_layers"),
        ({"num_hidden_layers": 32.5}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"num_hidden_layers": 10**400}, "num_hidden_layers"),
        ({"num_key_value_heads": None}, "num_key_value_heads is missing"),
        ({"num_key_value_heads": 5}, "cannot share"),
        ({"num_attention_heads": 24}, "cannot be divided"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"torch_dtype": None}, "names no type"),
        ({"torch_dtype": "int3"}, "int3"),
        ({"layer_types": ["full_attention"]}, "lists 1 layers"),
        ({"layer_types": ["linear_attention"] * 32}, "linear_attention"),
        ({"layer_types": ["sliding_attention"] * 32}, "sliding_window is missing"),
        ({"quantization_config": "fp8"}, "quantization_config"),
        ({"max_position_embeddings": 1 << 40}, "max_position_embeddings"),
    ],
)
def test_shape__missing_or_senseless_field__is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        shape_of(written(LLAMA_8B, **changes))
    assert words in caught.value.message


@pytest.mark.parametrize("config", [GEMMA_2_9B, QWEN_25_7B | {"model_type": "qwen3"}])
def test_head_dim__of_a_kind_that_needs_it__is_not_derived(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="head_dim is missing"):
        shape_of(written(config, head_dim=None))


def test_window__switched_on_without_a_list_of_layers__is_not_guessed() -> None:
    with pytest.raises(InvalidInput, match="use_sliding_window"):
        shape_of(written(QWEN_25_7B, use_sliding_window=True, sliding_window=4096))


def test_language_model__of_another_kind_inside__is_not_known() -> None:
    inside = GEMMA_3_27B["text_config"] | {"model_type": "mystery"}
    with pytest.raises(InvalidInput, match="mystery"):
        shape_of(written(GEMMA_3_27B, text_config=inside))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"model_type": "llama", "text_config": null}',
        b'{"model_type": "gemma3"}',
    ],
)
def test_shape__no_config_at_all__is_said(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        shape_of(content)


def test_shape__of_a_hundred_megabytes__is_not_even_read() -> None:
    with pytest.raises(InvalidInput, match="at most"):
        shape_of(b" " * 100_000_000)
    assert shape_of(written(LLAMA_8B) + b" " * (LARGEST_CONFIG - 1_000)).heads == 8


def test_shape__random_values_in_every_field__gives_a_sound_shape_or_says_what_is_odd() -> None:
    odd = [
        None,
        True,
        0,
        -1,
        3,
        1 << 70,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "8",
        "x" * 5_000,
        [],
        {},
        [1],
        {"a": 1},
    ]
    chance = random.Random(7)
    sound = 0
    for _ in range(3_000):
        config = dict(chance.choice([LLAMA_8B, QWEN_25_7B, DEEPSEEK_V3, GEMMA_2_9B, GEMMA_3_27B, MISTRAL]))
        target = config
        if "text_config" in config and chance.random() < 0.7:
            target = config["text_config"] = dict(config["text_config"])
        for name in chance.sample(sorted(target), k=chance.randint(1, 2)):
            target[name] = chance.choice(odd)
        try:
            shape = shape_of(written(config))
        except InvalidInput:
            continue
        sound += 1
        assert shape.full_layers + shape.window_layers > 0
        assert shape.head_numbers > 0
        assert shape.heads >= 0
        assert shape.number_bytes in (2, 4)
        assert (shape.window > 0) == (shape.window_layers > 0)
    assert sound > 100
