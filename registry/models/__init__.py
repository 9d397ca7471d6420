"""What the registry remembers: the mirror of the model store, manifests, alias history, golden sets."""

from registry.models.aliases import Alias, AliasMove
from registry.models.golden import GoldenExample, GoldenSet
from registry.models.mirror import HookDelivery, MirrorState
from registry.models.versions import ManifestState, Model, Version

__all__ = [
    "Alias",
    "AliasMove",
    "GoldenExample",
    "GoldenSet",
    "HookDelivery",
    "ManifestState",
    "MirrorState",
    "Model",
    "Version",
]
