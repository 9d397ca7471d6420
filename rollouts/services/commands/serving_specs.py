"""Whether a cluster would serve a version as a spec says: asked before anything is stored."""

from __future__ import annotations

from controlplane.kernel.errors import InvalidInput, NotFound
from registry.models import Version
from rollouts.domain.engine_options import EngineOptions
from rollouts.domain.limits import Limits
from rollouts.domain.secrets import SecretFile
from rollouts.domain.variants import ServingSpec
from rollouts.ports import Cluster
from rollouts.services.world import Worlds


def engine_options(*, cluster: Cluster, engine: str) -> EngineOptions:
    """What a spec may set of this engine on this cluster.

    Raises InvalidInput (field `serving.engine`: it knows no such engine), Unavailable when the cluster cannot say now.
    """
    try:
        return cluster.options(engine)
    except InvalidInput as error:
        raise InvalidInput(error.message, field="serving.engine", fix=error.fix, code=error.code) from error


def engines_of(*, cluster: str, worlds: Worlds) -> tuple[EngineOptions, ...]:
    """The engines of a cluster by name, each with what a spec may set. Raises NotFound, Unavailable."""
    port = _port(cluster, worlds)
    return tuple(port.options(engine) for engine in port.engines())


def limits_of(*, cluster: str, worlds: Worlds) -> Limits:
    """What a serving spec may ask of a cluster, whatever the engine. Raises NotFound, Unavailable."""
    return _port(cluster, worlds).limits()


def _port(cluster: str, worlds: Worlds) -> Cluster:
    if cluster not in worlds.names:
        raise NotFound(f"There is no cluster {cluster!r}.", code="cluster-not-found")
    return worlds.of(cluster).cluster


def check_serving(*, spec: ServingSpec, version: Version, cluster: Cluster) -> EngineOptions:
    """The options of the spec's engine, which allow all that it sets.

    The cluster checks the same again at every launch. Asks the cluster: call it outside a transaction. Raises
    InvalidInput naming the first field that they do not allow for this version, such as
    `serving.arguments.scheduler-cls`; Unavailable when the cluster cannot say now.
    """
    options = engine_options(cluster=cluster, engine=spec.engine)
    _check_references(spec, cluster)
    cluster.limits().check(
        resources=spec.resources,
        replicas=spec.replicas,
        image=spec.image,
        accelerators=spec.accelerators,
        adopts=spec.adopts,
        prefix="serving.",
    )
    manifest = version.manifest_value
    files = None if manifest is None else {entry.path for entry in manifest.entries}
    options.choose(spec.arguments, spec.environment, files=files, prefix="serving.")
    return options


def _check_references(spec: ServingSpec, cluster: Cluster) -> None:
    files = {name: value.name for name, value in spec.secrets.items() if isinstance(value, SecretFile)}
    there = cluster.secret_files() if files else ()
    for name, file in sorted(files.items()):
        if file not in there:
            raise InvalidInput(
                f"There is no secret file {file!r} on this cluster.",
                field=f"serving.environment.{name}",
                fix=f"Use one of: {', '.join(there) or 'none yet'}. The operator puts it into the folder of secrets.",
                code="secret-not-found",
            )
