"""Whether anything can be made in the namespace of a cluster's profile.

A list of what is in a namespace that is not there is empty, and no refusal. Only whoever makes something there is told.
So the creation of an anchor is tried: as a dry run, with rights that every launch needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from controlplane.kernel.errors import HeadgateError
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient, ObjectKind
from rollouts.adapters.clusters.kubernetes.errors import Denied

# What keeps the trial from being made, and says that the namespace is there: a quota, the name, or a rule of the
# cluster, such as a webhook that knows no dry runs.
THERE = frozenset({"quota", "stale-object", "terminal"})


def check_namespace(client: KubernetesClient) -> None:
    """Raises NamespaceMissing, NamespaceEnds, Denied where the role may make nothing there, and whatever the client
    raises when the cluster does not answer. Writes nothing."""
    metadata = {"generateName": "headgate-", "namespace": client.namespace}
    try:
        client.try_to_create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    except HeadgateError as error:
        if error.code not in THERE:
            raise


def refused_there(client: KubernetesClient, kinds: Iterable[ObjectKind]) -> list[str]:
    """What the API server refuses when an anchor is made and objects of these kinds are listed: in sentences that say
    what to do. Writes nothing."""
    asked: list[Callable[[], object]] = [partial(check_namespace, client)]
    asked += [partial(client.list, kind) for kind in kinds]
    refused = []
    for ask in asked:
        try:
            ask()
        except HeadgateError as error:
            refused.append(error)
    if len(refused) == len(asked) and all(isinstance(error, Denied) for error in refused):
        # A role that is bound in a namespace goes with it, so that nobody says which of both is missing.
        there = client.namespace
        return [
            f"Headgate may do nothing in the namespace {there}: it is not there, or no role is bound in it."
            f" Create the namespace {there} where it is missing, and bind the role headgate-workloads in it."
        ]
    return [f"{error.message} {error.fix}".strip() for error in refused]
