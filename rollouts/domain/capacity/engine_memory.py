"""The memory of one accelerator that a variant needs, before anything is started.

    weights + KV cache + overhead <= memory of the accelerator x gpu-memory-utilization

Weights are the files' own sizes, shared evenly among the accelerators of a replica. The KV cache follows from the
model's config.json. Both are exact to about two percent: some small tensors are not shared, and weights that only
speculative decoding would use lie in the files too (the last layer of DeepSeek V3).

The overhead is an allowance: activations, CUDA graphs, libraries. Nobody can compute it beforehand; vLLM measures it at
every start. What counts here is what it measured with Llama 3 8B on an H100 of 80 GB (github.com/vllm-project/vllm,
pull request 10511): 1.26 GiB of activations, and beside PyTorch 1.79 GiB on one accelerator and 3.58 GiB on each of
two. A much larger or multimodal model needs more. So a variant that only just fits is said to be tight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import number_of, shown_value, whole_of
from controlplane.kernel.words import significant
from registry.domain.manifest import Manifest
from rollouts.domain.capacity.model_shape import NUMBER_BYTES, ModelShape, shape_of
from rollouts.domain.capacity.weight_files import weight_bytes

GIB = 1 << 30
OVERHEAD_ALONE, OVERHEAD_SHARED = round(3.05 * GIB), round(4.84 * GIB)
TIGHT_SHARE = 0.05  # of the memory that may be used: closer than that is for the engine to find out
UTILIZATION = 0.92  # gpu-memory-utilization, block-size: as vLLM 0.32 has them where nobody says
BLOCK = 16
STEPS_IN_FLIGHT = 2  # vLLM prepares a step while it computes the one before
MOST_REQUESTS, LARGEST_ACCELERATOR = 100_000, 64 << 40
ARGUMENT = "arguments."
# Each makes the engine use memory in a way that does not follow from the model: (the harmless values, why).
NOT_COMPUTED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "pipeline-parallel-size": (
        (1,),
        "the layers are dealt out to accelerators that then need different amounts",
    ),
    "cpu-offload-gb": ((0, 0.0), "a part of the weights lies elsewhere"),
    "num-gpu-blocks-override": ((), "the cache has another size than what fits"),
    "kv-cache-memory-bytes": (
        (),
        "the cache has a size of its own, and gpu-memory-utilization does not count",
    ),
    "load-format": (("auto", "safetensors"), "other files are loaded"),
    "config-format": (("auto", "hf"), "another configuration than config.json is read"),
    "disable-sliding-window": ((False,), "the longest request is another one"),
}


class MemoryFit(StrEnum):
    """Whether the variant has room on the accelerator."""

    FITS = "fits"
    TIGHT = "tight"  # it depends on what the engine needs beside weights and cache
    TOO_LARGE = "too large"  # weights and cache alone are too large


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """Bytes on one accelerator.

    weights, cache, overhead  what is needed; `cache` is for `requests` of `context` tokens at the same time
    total, usable             what the accelerator has, and what of it the engine may take
    most_requests             of `context` tokens that fit at the same time; 0: not one
    accelerators              that share the weights of a replica
    """

    weights: int
    cache: int
    overhead: int
    total: int
    usable: int
    context: int
    requests: int
    most_requests: int
    accelerators: int

    @property
    def needed(self) -> int:
        return self.weights + self.cache + self.overhead

    @property
    def fit(self) -> MemoryFit:
        if self.weights + self.cache > self.usable:
            return MemoryFit.TOO_LARGE
        return MemoryFit.FITS if self.needed <= self.usable * (1 - TIGHT_SHARE) else MemoryFit.TIGHT

    @property
    def sentence(self) -> str:
        """All figures, for people."""
        each = "each of them" if self.accelerators > 1 else "it"
        on = f"{self.accelerators} accelerators" if self.accelerators > 1 else "one accelerator"
        requests = "1 request" if self.requests == 1 else f"{self.requests:,} requests"
        return (
            f"On {on}, {each} needs {gib(self.needed)}: {gib(self.weights)} for weights, {gib(self.cache)} for the KV "
            f"cache of {requests} of {self.context:,} tokens, and about {gib(self.overhead)} beside them. The engine "
            f"may take {gib(self.usable)} of {gib(self.total)}: {self._verdict()}."
        )

    def _verdict(self) -> str:
        most = "1 such request" if self.most_requests == 1 else f"{self.most_requests:,} such requests"
        match self.fit:
            case MemoryFit.FITS:
                return f"it fits, with room for {most} at the same time"
            case MemoryFit.TIGHT:
                return "whether it fits depends on what the engine needs beside weights and cache"
            case MemoryFit.TOO_LARGE:
                short = f"{gib(self.needed - self.usable)} are missing"
                return f"it does not fit; {short}" + (f", and {most} would fit" if self.most_requests else "")


@dataclass(frozen=True, slots=True)
class MemoryUnknown:
    """Why nothing can be said, in a sentence."""

    reason: str

    @property
    def sentence(self) -> str:
        return f"How much memory it needs is not known. {self.reason}"


def memory_of(
    config: bytes,
    manifest: Manifest,
    arguments: Mapping[str, Any],
    *,
    accelerator_bytes: int,
    requests: int = 1,
) -> EngineMemory | MemoryUnknown:
    """What a variant needs on each accelerator of a replica.

    config             the content of the version's config.json
    arguments          the engine's, by name, as a serving spec has them
    accelerator_bytes  memory of one accelerator
    requests           of the longest length that shall be answered at the same time
    """
    try:
        shape = shape_of(config)
        return _memory(shape, weight_bytes(manifest.entries), arguments, accelerator_bytes, requests)
    except InvalidInput as error:
        return MemoryUnknown(error.message)


def _memory(
    shape: ModelShape, stored: int, arguments: Mapping[str, Any], accelerator_bytes: int, requests: int
) -> EngineMemory:
    for name, (harmless, why) in NOT_COMPUTED.items():
        if arguments.get(name) is not None and arguments[name] not in harmless:
            raise _unknown(f"With {name} it cannot be computed: {why}.", name)
    total = whole_of(
        accelerator_bytes, "The accelerator's memory", "bytes", least=1, most=LARGEST_ACCELERATOR
    )
    shared = _whole(arguments, "tensor-parallel-size", 1, most=1024)
    share = arguments.get("gpu-memory-utilization")
    share = UTILIZATION if share is None else share
    usable = math.floor(total * number_of(share, *_said("gpu-memory-utilization"), least=0.01, most=1.0))
    if shape.heads and shape.heads % shared and shared % shape.heads:
        raise _unknown(
            f"{shape.heads} key-value heads cannot be shared among {shared} accelerators.",
            "tensor-parallel-size",
        )
    context = _context(shape, arguments)
    wanted = whole_of(requests, "The number of requests", "requests", least=1, most=MOST_REQUESTS)
    in_flight = STEPS_IN_FLIGHT * _whole(arguments, "max-num-batched-tokens", _batched(total), most=1 << 30)
    weights = math.ceil(_loaded(shape, stored, arguments) / shared)
    overhead = OVERHEAD_ALONE if shared == 1 else OVERHEAD_SHARED
    cache = KvCache(
        shape,
        number_bytes=_cache_bytes(shape, arguments),
        shared=shared,
        block=_whole(arguments, "block-size", BLOCK, most=1 << 16),
        in_flight=in_flight,
        all_full=arguments.get("disable-hybrid-kv-cache-manager") is True,
    )
    return EngineMemory(
        weights=weights,
        cache=cache.bytes_of(wanted, context),
        overhead=overhead,
        total=total,
        usable=usable,
        context=context,
        requests=wanted,
        most_requests=cache.most_requests(usable - weights - overhead, context),
        accelerators=shared,
    )


@dataclass(frozen=True, slots=True)
class KvCache:
    """The cache on one of `shared` accelerators.

    number_bytes  of one number
    block         tokens that are given out together
    in_flight     tokens that are computed at the same time: layers with a window keep these, too
    all_full      layers with a window keep everything
    """

    shape: ModelShape
    number_bytes: int
    shared: int = 1
    block: int = BLOCK
    in_flight: int = 0
    all_full: bool = False

    @property
    def token_bytes(self) -> int:
        """Of one token in one layer. Key-value heads are shared; fewer of them than accelerators are kept twice."""
        heads = 1 if self.shape.heads == 0 else math.ceil(self.shape.heads / self.shared)
        return heads * self.shape.head_numbers * self.number_bytes

    def bytes_of(self, requests: int, context: int) -> int:
        """For so many requests of so many tokens at the same time."""
        full, windowed = self._layers()
        kept = requests * self._in_blocks(context)
        inside = kept
        if self.shape.window:
            # Each request has a window, and one block that begins before it. What is in flight belongs to all together.
            sliding = requests * self._in_blocks(self.shape.window - 1 + self.block) + self._in_blocks(
                self.in_flight
            )
            inside = min(kept + requests * self.block, sliding)
        return (full * kept + windowed * inside) * self.token_bytes

    def most_requests(self, left: int, context: int) -> int:
        """How many requests of so many tokens have room in so many bytes."""
        low, high = 0, MOST_REQUESTS
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.bytes_of(middle, context) <= left else (low, middle - 1)
        return low

    def _layers(self) -> tuple[int, int]:
        """Layers that keep everything and those with a window, as the engine groups them: groups of the same number,
        the last one of a kind filled up (`get_kv_cache_groups` of vLLM)."""
        full, windowed = self.shape.full_layers, self.shape.window_layers
        if self.all_full:
            return full + windowed, 0
        if not full or not windowed:
            return full, windowed
        fewer, more = sorted((full, windowed))
        group = more if more < 1.5 * fewer else fewer
        return math.ceil(full / group) * group, math.ceil(windowed / group) * group

    def _in_blocks(self, tokens: int) -> int:
        return math.ceil(tokens / self.block) * self.block


def _loaded(shape: ModelShape, stored: int, arguments: Mapping[str, Any]) -> int:
    """Bytes of the weights once they are loaded."""
    if arguments.get("quantization") is not None and not shape.quantized:
        raise _unknown(
            "The engine would quantize the weights itself; by how much does not show in the files.",
            "quantization",
        )
    wanted = arguments.get("dtype", "auto")
    width = shape.number_bytes if wanted == "auto" else _width(wanted, "dtype")
    if shape.quantized and width != 2:
        raise _unknown(f"What quantized weights become with the type {wanted} is not known.", "dtype")
    if shape.number_bytes == 4 and not shape.quantized:
        # Whoever wrote the files may have left the type of another checkpoint in config.json, and often did.
        raise _unknown(
            "config.json names float32, which engines load in half the bytes if the files have it, and their sizes do "
            "not tell.",
            "dtype",
        )
    return stored if shape.quantized else stored * width // shape.number_bytes


def _cache_bytes(shape: ModelShape, arguments: Mapping[str, Any]) -> int:
    wanted = arguments.get("kv-cache-dtype", "auto")
    if wanted != "auto":
        return _width(wanted, "kv-cache-dtype")
    if shape.cache_type:
        raise _unknown(
            "The files themselves set the type of the cache's numbers. Set kv-cache-dtype.", "kv-cache-dtype"
        )
    dtype = arguments.get("dtype", "auto")
    return 2 if dtype == "auto" else _width(dtype, "dtype")


def _context(shape: ModelShape, arguments: Mapping[str, Any]) -> int:
    if arguments.get("max-model-len") is not None:
        return _whole(arguments, "max-model-len", 1, most=1 << 30)
    if shape.longest is None:
        raise _unknown(
            "config.json does not plainly say how long a request may be. Set max-model-len.", "max-model-len"
        )
    return shape.longest


def _batched(accelerator_bytes: int) -> int:
    """max-num-batched-tokens of vLLM's server where nobody says: by the accelerator's memory. An A100 of 80 GB has
    2,048; here it counts as the others of its size."""
    if accelerator_bytes >= 160 * GIB:
        return 16_384
    return 8_192 if accelerator_bytes >= 70 * GIB else 2_048


def _whole(arguments: Mapping[str, Any], name: str, usual: int, *, most: int) -> int:
    value = arguments.get(name)
    return usual if value is None else whole_of(value, *_said(name), least=1, most=most)


def _width(value: object, name: str) -> int:
    if not isinstance(value, str) or value not in NUMBER_BYTES:
        raise _unknown(f"How many bytes a number of the type {shown_value(value)} has is not known.", name)
    return NUMBER_BYTES[value]


def _said(name: str) -> tuple[str, str]:
    return "What the serving spec sets", f"{ARGUMENT}{name}"


def _unknown(message: str, name: str) -> InvalidInput:
    return InvalidInput(message, field=f"{ARGUMENT}{name}", code="memory-unknown")


def gib(size: int) -> str:
    """Bytes for people: 15.6 GiB, 0.4 GiB, 671 GiB."""
    return f"{significant(size / GIB, 3 if size >= GIB else 2)} GiB"
