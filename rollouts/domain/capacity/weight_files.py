"""Which files of a version are the weights that an engine loads, by the names in its manifest."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.kernel.errors import InvalidInput
from registry.domain.manifest import ManifestEntry

SUFFIX = ".safetensors"
OTHER_LAYOUT = "consolidated"  # the same weights once more, as another engine reads them
ADAPTER = "adapter_"  # of a LoRA adapter, which is no model by itself


def weight_bytes(entries: Iterable[ManifestEntry]) -> int:
    """Bytes of the weights, as they are stored: a model that is quantized has smaller files.

    Engines read the folder itself and none below it. Raises InvalidInput when it holds no weights.
    """
    found = {entry.path: entry.size for entry in entries if _is_weights(entry.path)}
    model = {path: size for path, size in found.items() if not path.startswith(OTHER_LAYOUT)}
    total = sum((model or found).values())
    if total <= 0:
        raise InvalidInput(
            f"The version has no weights: no file in its folder ends in {SUFFIX}.",
            field="manifest",
            code="memory-unknown",
        )
    return total


def _is_weights(path: str) -> bool:
    return path.endswith(SUFFIX) and "/" not in path and not path.startswith(ADAPTER)
