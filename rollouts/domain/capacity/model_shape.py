"""What a model's own config.json says about the memory that its KV cache takes.

Only kinds of models are known whose layers were looked up (transformers 5.19 and vLLM 0.32). Any other kind, a field
that is missing and a value that makes no sense raise InvalidInput with a sentence. No usual value takes their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import Fields, parsed

CONFIG = "config.json"
LARGEST_CONFIG = 4 << 20  # bytes; those of public models have at most some 100,000
MOST_LAYERS, MOST_HEADS, WIDEST, LONGEST = 2_000, 4_096, 1 << 20, 1 << 30
FULL, SLIDING = "full_attention", "sliding_attention"
# Bytes of a number by the names that config.json and the engine's arguments have for its type.
NUMBER_BYTES: Mapping[str, int] = {
    "bfloat16": 2, "float16": 2, "half": 2, "float32": 4, "float": 4,
    "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1,
}  # fmt: skip
# With these, `max_position_embeddings` is the longest request; other kinds stretch it in ways of their own.
PLAIN_ROPE = frozenset({"default", "llama3"})


class LayerPattern(StrEnum):
    """Which layers look back over a window only, where config.json does not list the kinds of its layers."""

    ALL_FULL = "all full"
    ALL_WINDOW = "all over the window, where there is one"
    SWITCHED = "over the window only with use_sliding_window"
    ALTERNATING = "every second one full"
    EVERY_NTH = "every sliding_window_pattern-th one full"
    LATENT = "all full, keys and values compressed together"


@dataclass(frozen=True, slots=True)
class _KnownKind:
    """head_dim_needed: hidden_size / num_attention_heads is not what the head's size is where it is not said."""

    pattern: LayerPattern
    head_dim_needed: bool = False


KNOWN_KINDS: Mapping[str, _KnownKind] = {
    "llama": _KnownKind(LayerPattern.ALL_FULL),
    "mistral": _KnownKind(LayerPattern.ALL_WINDOW),
    "mixtral": _KnownKind(LayerPattern.ALL_WINDOW),
    "phi3": _KnownKind(LayerPattern.ALL_WINDOW),
    "qwen2": _KnownKind(LayerPattern.SWITCHED),
    "qwen3": _KnownKind(LayerPattern.SWITCHED, head_dim_needed=True),
    "qwen3_moe": _KnownKind(LayerPattern.SWITCHED, head_dim_needed=True),
    "gemma": _KnownKind(LayerPattern.ALL_FULL, head_dim_needed=True),
    "gemma2": _KnownKind(LayerPattern.ALTERNATING, head_dim_needed=True),
    "gemma3_text": _KnownKind(LayerPattern.EVERY_NTH, head_dim_needed=True),
    "deepseek_v2": _KnownKind(LayerPattern.LATENT),
    "deepseek_v3": _KnownKind(LayerPattern.LATENT),
}
# Their language model is described in `text_config`.
WRAPPED_KINDS: Mapping[str, str] = {"gemma3": "gemma3_text"}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What of a model takes memory for every token of a request.

    kind           `model_type` of the language model
    full_layers    layers that keep all tokens of a request
    window_layers  layers that keep the last `window` tokens
    heads          key-value heads, which accelerators share among them; 0: every accelerator keeps all
    head_numbers   numbers that a layer keeps for a token and key-value head, keys and values together; without heads
                   for a token
    number_bytes   bytes of a number, by the type that the weights have
    quantized      whether the weights are stored in fewer bits than that
    cache_type     whether the files themselves set the type of the cache's numbers
    longest        tokens of the longest request; None: config.json does not say it plainly
    """

    kind: str
    full_layers: int
    window_layers: int
    window: int
    heads: int
    head_numbers: int
    number_bytes: int
    quantized: bool
    cache_type: bool
    longest: int | None


def shape_of(config: bytes) -> ModelShape:
    """Reads a config.json. Raises InvalidInput with what is odd or not known in it."""
    if len(config) > LARGEST_CONFIG:
        raise _unknown(f"config.json has {len(config):,} bytes, and at most {LARGEST_CONFIG:,} are read")
    top = Fields(parsed(config, CONFIG), CONFIG)
    said = top.text("model_type", longest=100)
    text, kind = (top.needed("text_config"), WRAPPED_KINDS[said]) if said in WRAPPED_KINDS else (top, said)
    inner = text.text("model_type", kind, longest=100)
    if inner != kind or kind not in KNOWN_KINDS:
        raise _unknown(f"The model_type {inner!r} is not one whose memory is known")
    known = KNOWN_KINDS[kind]
    layers = text.whole("num_hidden_layers", least=1, most=MOST_LAYERS)
    heads, head_numbers = _kept(text, known)
    windowed = _windowed(text, known.pattern, layers)
    window = text.whole("sliding_window", least=1, most=LONGEST) if windowed else 0
    quantization = top.part("quantization_config") if top.has_object("quantization_config") else None
    return ModelShape(
        kind=kind,
        full_layers=layers - windowed,
        window_layers=windowed,
        window=window,
        heads=heads,
        head_numbers=head_numbers,
        number_bytes=_number_bytes(top, text),
        quantized=quantization is not None,
        cache_type=quantization is not None and _sets_cache_type(quantization),
        longest=_longest(text),
    )


def _kept(text: Fields, known: _KnownKind) -> tuple[int, int]:
    """Key-value heads, and the numbers that a layer keeps for a token and head."""
    if known.pattern is LayerPattern.LATENT:
        rank = text.whole("kv_lora_rank", least=1, most=WIDEST)
        rotated = text.whole("qk_rope_head_dim", least=1, most=WIDEST)
        return 0, rank + rotated
    queries = text.whole("num_attention_heads", least=1, most=MOST_HEADS)
    heads = text.whole("num_key_value_heads", least=1, most=MOST_HEADS)
    if queries % heads:
        raise text.odd(f"{queries} attention heads cannot share {heads} key-value heads")
    if known.head_dim_needed or text.has_object("head_dim"):
        return heads, 2 * text.whole("head_dim", least=1, most=WIDEST)
    hidden = text.whole("hidden_size", least=1, most=WIDEST)
    if hidden % queries:
        raise text.odd(f"a hidden_size of {hidden} cannot be divided among {queries} attention heads")
    return heads, 2 * (hidden // queries)


def _windowed(text: Fields, pattern: LayerPattern, layers: int) -> int:
    """How many layers keep a window of tokens only."""
    if text.has_object("layer_types") and pattern is not LayerPattern.LATENT:
        kinds = text.texts("layer_types", longest=100)
        if len(kinds) != layers:
            raise text.odd(f"layer_types lists {len(kinds)} layers, and num_hidden_layers says {layers}")
        other = sorted(set(kinds) - {FULL, SLIDING})
        if other:
            raise _unknown(f"What layers of the kind {other[0]!r} keep is not known")
        return kinds.count(SLIDING)
    match pattern:
        case LayerPattern.ALL_WINDOW:
            return layers if text.has_object("sliding_window") else 0
        case LayerPattern.ALTERNATING:
            return (layers + 1) // 2
        case LayerPattern.EVERY_NTH:
            every = text.whole("sliding_window_pattern", 6, least=1, most=MOST_LAYERS)
            return layers - layers // every
        case LayerPattern.SWITCHED:
            if text.has_object("use_sliding_window") and text.flag("use_sliding_window"):
                raise _unknown(
                    "With use_sliding_window and no layer_types it is not known which layers have a window"
                )
            return 0
        case LayerPattern.ALL_FULL | LayerPattern.LATENT:
            return 0


def _number_bytes(top: Fields, text: Fields) -> int:
    names = [
        part.text(name, longest=40)
        for part in (top, text)
        for name in ("dtype", "torch_dtype")
        if part.has_object(name)
    ]
    if not names:
        raise _unknown("config.json names no type of the weights (dtype, torch_dtype)")
    if names[0] not in ("bfloat16", "float16", "float32"):
        raise _unknown(f"The type {names[0]!r} of the weights is not known")
    return NUMBER_BYTES[names[0]]


def _sets_cache_type(quantization: Fields) -> bool:
    """Where compressed-tensors and ModelOpt say it."""
    named = ("kv_cache_scheme", "kv_cache_quant_algo")
    parts = [quantization]
    if quantization.has_object("quantization"):
        parts.append(quantization.part("quantization"))
    return any(part.has_object(name) for part in parts for name in named)


def _longest(text: Fields) -> int | None:
    if not text.has_object("max_position_embeddings"):
        return None
    longest = text.whole("max_position_embeddings", least=1, most=LONGEST)
    for name in ("rope_scaling", "rope_parameters"):
        if text.has_object(name):
            part = text.part(name)
            if part.has_object(FULL) or part.has_object(SLIDING):
                return None  # one rule for each kind of layers
            kind = part.text("rope_type", part.text("type", "default", longest=100), longest=100)
            if kind not in PLAIN_ROPE:
                return None
    return longest


def _unknown(what: str) -> InvalidInput:
    return InvalidInput(f"{what}.", field=CONFIG, code="memory-unknown")
