"""Calls about clusters: what they are, whether they can be used, and what a serving spec may set of their engines."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.rules import action_of
from controlplane.access.services import Scope
from controlplane.api.callers import actor_of, now_of
from controlplane.api.inputs import Input
from controlplane.api.permissions import Need
from controlplane.kernel.plain import check_plain
from rollouts import selectors, wiring
from rollouts.domain.belongings import ModelServer, Orphan
from rollouts.domain.engine_options import OptionKind
from rollouts.domain.trials import CapabilityNow, KnownBy
from rollouts.services.commands.clusters import ClusterNow, all_clusters, one_cluster, set_cluster
from rollouts.services.commands.serving_specs import engines_of, limits_of

TAGS = ["clusters"]
MOMENT = {"type": "string", "format": "date-time", "nullable": True}
KINDS = [(kind.value, kind.value) for kind in OptionKind]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)


class ListOfNames(serializers.ListField):
    """A set of names, sorted."""

    child = serializers.CharField()

    def to_representation(self, data: Collection[str]) -> list[str]:
        return sorted(data)


class OptionPartOutput(serializers.Serializer[Any]):
    """A part of an option that is an object."""

    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=KINDS)
    help = serializers.CharField(help_text="what it does")
    wanted = serializers.CharField(help_text="what may be written, in words")
    least = serializers.FloatField(help_text="of an integer, a number, a size in bytes")
    most = serializers.FloatField(help_text="likewise")
    choices = serializers.ListField(
        child=serializers.CharField(), help_text="of a word; of a file the endings that it may have"
    )
    pattern = serializers.CharField(help_text="of a text: a regular expression that matches all of it")


class OptionOutput(OptionPartOutput):
    """One thing that a serving spec may set."""

    parts = OptionPartOutput(many=True, source="fields", help_text="of an object: what it may hold")


class EngineOutput(serializers.Serializer[Any]):
    """An engine of a cluster, and all that a serving spec may set of it."""

    engine = serializers.CharField()
    arguments = OptionOutput(many=True)
    variables = OptionOutput(many=True)
    passed_on = serializers.ListField(
        child=serializers.CharField(), help_text="variables taken over from the stack's own environment"
    )
    widened = serializers.ListField(
        child=serializers.CharField(), help_text="what the operator added to an engine that Headgate brings"
    )


class LimitsOutput(serializers.Serializer[Any]):
    """What a serving spec may ask of a cluster, whatever the engine."""

    resources = ListOfNames(help_text="names that `resources` may have")
    replicas = serializers.IntegerField(help_text="of one variant at most")
    images = ListOfNames(help_text="repositories that `image` may be of; empty: none")
    accelerators = ListOfNames(help_text="what `accelerators.resource` may be; empty: none")


class EnginesOutput(serializers.Serializer[Any]):
    """The engines of a cluster, and what it can give them."""

    engines = EngineOutput(many=True)
    limits = LimitsOutput()


class CapabilityOutput(serializers.Serializer[Any]):
    """One thing that a cluster's router can or cannot do, and how that is known."""

    name = serializers.CharField()
    words = serializers.CharField(help_text="what it is, after `can` or `cannot`")
    known_by = serializers.ChoiceField(
        choices=[(one.value, one.value) for one in KnownBy],
        help_text="declared and not tried here, proven or refuted by a trial of the gateway, or missing",
    )
    detail = serializers.CharField(help_text="what the trial found, in numbers; empty: it was not tried")
    at = serializers.SerializerMethodField(help_text="when the trial found it; null: it was not tried")

    @extend_schema_field(MOMENT)
    def get_at(self, one: CapabilityNow) -> datetime | None:
        return _moment(one.at)


class ClusterOutput(serializers.Serializer[Any]):
    """A cluster, and whether it can be used."""

    name = serializers.CharField()
    kind = serializers.CharField()
    configuration = serializers.JSONField(help_text="as the kind asks for it; no secret is in it")
    secret = serializers.CharField(
        help_text="name of a file in the folder of the clusters' secrets; empty: none"
    )
    endpoint_url = serializers.SerializerMethodField(
        help_text="where an endpoint called name is reached, with /v1 behind it; empty while the cluster cannot be used"
    )
    problem = serializers.SerializerMethodField(help_text="why it cannot be used; null: it can")
    fix = serializers.SerializerMethodField(help_text="what to do about the problem")
    capabilities = CapabilityOutput(
        many=True, help_text="what its router can do; empty while it cannot be used"
    )

    @extend_schema_field(str)
    def get_endpoint_url(self, one: ClusterNow) -> str:
        return "" if one.endpoint_url is None else one.endpoint_url("name")

    @extend_schema_field({"type": "string", "nullable": True})
    def get_problem(self, one: ClusterNow) -> str | None:
        return None if one.problem is None else one.problem.message

    @extend_schema_field(str)
    def get_fix(self, one: ClusterNow) -> str:
        return "" if one.problem is None else one.problem.fix


class DriftOutput(serializers.Serializer[Any]):
    """An engine that is not as it was launched."""

    endpoint = serializers.CharField(source="variant.endpoint.name")
    variant = serializers.CharField(source="variant.name")
    drift = serializers.CharField(help_text="what somebody changed, and who; it is left so")


class OrphanOutput(serializers.Serializer[Any]):
    """A launch of this installation that its database does not know."""

    where = serializers.CharField(source="launch.where", help_text="what it is in the cluster, and its name")
    variant = serializers.CharField(source="launch.variant")
    endpoint = serializers.CharField(source="launch.endpoint", help_text="empty: not known")
    made_at = serializers.SerializerMethodField(help_text="null: not known")
    unknown_since = serializers.SerializerMethodField(
        help_text="since when it is marked as unknown; null: it is not"
    )
    waits = serializers.CharField(help_text="why it is still there; empty: it is taken away")

    @extend_schema_field(MOMENT)
    def get_made_at(self, one: Orphan) -> datetime | None:
        return _moment(one.launch.made_at)

    @extend_schema_field(MOMENT)
    def get_unknown_since(self, one: Orphan) -> datetime | None:
        return _moment(one.launch.unknown_since)


class ModelServerOutput(serializers.Serializer[Any]):
    """A model server in the cluster that Headgate does not manage."""

    where = serializers.CharField(help_text="what it is in the cluster, and its name")
    image = serializers.CharField()
    model = serializers.CharField(help_text="as its arguments name it; empty: they do not")
    managed_by = serializers.CharField(source="by", help_text="as its labels say; empty: they do not")
    ready = serializers.IntegerField(help_text="ready replicas")
    desired = serializers.IntegerField(help_text="replicas that there should be")
    unfit = serializers.CharField(
        help_text="why it cannot be adopted, and what its owner can do; empty: it can"
    )
    made_at = serializers.SerializerMethodField(help_text="null: not known")

    @extend_schema_field(MOMENT)
    def get_made_at(self, one: ModelServer) -> datetime | None:
        return _moment(one.made_at)


class BelongingsOutput(serializers.Serializer[Any]):
    """What lies in a cluster beside what its endpoints use, and what was changed of that by hand."""

    looked_at = serializers.DateTimeField(
        allow_null=True, help_text="when orphans and servers were looked for; null: never"
    )
    drifts = DriftOutput(many=True)
    orphans = OrphanOutput(many=True)
    servers = ModelServerOutput(many=True)


class ClustersOutput(serializers.Serializer[Any]):
    """All clusters."""

    clusters = ClusterOutput(many=True)


class ClusterInput(Input):
    """A cluster as it is to be."""

    kind = serializers.CharField(max_length=20, help_text="`local`: the machine that Headgate runs on")
    configuration = serializers.JSONField(
        required=False, default=dict, help_text="an object; what the kind needs to know"
    )
    secret = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=100,
        help_text="name of a file in the folder of the clusters' secrets",
    )

    def validate_configuration(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise serializers.ValidationError("This is no object.", code="not-an-object")
        check_plain(value, field="configuration")
        return value


class Clusters(APIView):
    """The clusters of this installation."""

    @extend_schema(operation_id="clusters_list", summary="List clusters", tags=TAGS, responses=ClustersOutput)
    def get(self, request: Request) -> Response:
        return Response(ClustersOutput({"clusters": all_clusters(worlds=wiring.worlds())}).data)


class OneCluster(APIView):
    """One cluster; PUT makes or changes it."""

    needs = {"PUT": Need(Scope.ROLLOUTS_WRITE, action_of(set_cluster))}

    @extend_schema(operation_id="clusters_get", summary="Get a cluster", tags=TAGS, responses=ClusterOutput)
    def get(self, request: Request, name: str) -> Response:
        return Response(ClusterOutput(one_cluster(name=name, worlds=wiring.worlds())).data)

    @extend_schema(
        operation_id="clusters_set",
        summary="Make or change a cluster",
        description=(
            "Running processes take the change over by themselves. Nothing is moved by it: while endpoints are on a"
            " cluster, its kind and the place where it runs stay as they are. A configuration with mistakes is a 422"
            " whose `errors` name every one of them."
        ),
        tags=TAGS,
        request=ClusterInput,
        responses={200: ClusterOutput, 201: ClusterOutput},
    )
    def put(self, request: Request, name: str) -> Response:
        form = ClusterInput.read(request)
        made = set_cluster(
            name=name,
            kind=form["kind"],
            configuration=form["configuration"],
            secret=form["secret"],
            problems=wiring.cluster_problems,
            actor=actor_of(request),
            now=now_of(request),
        )
        return Response(
            ClusterOutput(one_cluster(name=name, worlds=wiring.worlds())).data,
            status=status.HTTP_201_CREATED if made else status.HTTP_200_OK,
        )


class ClusterBelongings(APIView):
    """What lies in a cluster that no endpoint uses."""

    @extend_schema(
        operation_id="clusters_belongings",
        summary="List what was changed by hand, orphans, and model servers that Headgate does not manage",
        description=(
            "As housekeeping saw it last, every five minutes: the cluster is not asked by this call. Orphans are taken"
            " away by themselves, once nothing speaks against it."
        ),
        tags=TAGS,
        responses=BelongingsOutput,
    )
    def get(self, request: Request, name: str) -> Response:
        found = one_cluster(name=name, worlds=wiring.worlds()).belongings
        told = {
            "looked_at": None if found is None else _moment(found.at),
            "drifts": selectors.drifting(name),
            "orphans": () if found is None else found.orphans,
            "servers": () if found is None else found.servers,
        }
        return Response(BelongingsOutput(told).data)


class ClusterEngines(APIView):
    """What may be served on a cluster, and how."""

    @extend_schema(
        operation_id="clusters_engines",
        summary="List a cluster's engines with what a serving spec may set",
        description="Whatever is not listed is refused when an endpoint or a rollout is created, and at every launch.",
        tags=TAGS,
        responses=EnginesOutput,
    )
    def get(self, request: Request, name: str) -> Response:
        worlds = wiring.worlds()
        found = {
            "engines": engines_of(cluster=name, worlds=worlds),
            "limits": limits_of(cluster=name, worlds=worlds),
        }
        return Response(EnginesOutput(found).data)
