"""Calls about clusters: which engines there are, and what a serving spec may set of them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rollouts import wiring
from rollouts.domain.engine_options import OptionKind
from rollouts.services.serving_specs import engines_of

TAGS = ["clusters"]
KINDS = [(kind.value, kind.value) for kind in OptionKind]


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


class EnginesOutput(serializers.Serializer[Any]):
    """The engines of a cluster."""

    engines = EngineOutput(many=True)


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
        return Response(EnginesOutput({"engines": engines_of(cluster=name, clusters=wiring.clusters())}).data)
