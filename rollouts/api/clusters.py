"""Calls about clusters: what they are, whether they can be used, and what a serving spec may set of their engines."""

from __future__ import annotations

from collections.abc import Collection
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
from rollouts import wiring
from rollouts.domain.engine_options import OptionKind
from rollouts.services.commands.clusters import ClusterNow, all_clusters, one_cluster, set_cluster
from rollouts.services.commands.serving_specs import engines_of, limits_of

TAGS = ["clusters"]
KINDS = [(kind.value, kind.value) for kind in OptionKind]


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

    @extend_schema_field(str)
    def get_endpoint_url(self, one: ClusterNow) -> str:
        return "" if one.endpoint_url is None else one.endpoint_url("name")

    @extend_schema_field({"type": "string", "nullable": True})
    def get_problem(self, one: ClusterNow) -> str | None:
        return None if one.problem is None else one.problem.message

    @extend_schema_field(str)
    def get_fix(self, one: ClusterNow) -> str:
        return "" if one.problem is None else one.problem.fix


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
