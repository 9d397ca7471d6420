"""Calls about models, versions, aliases and golden sets. Thin: a selector or one service each."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.rules import action_of
from controlplane.access.services import Scope
from controlplane.api.callers import actor_of, now_of
from controlplane.api.idempotency import idempotent
from controlplane.api.pagination import ByName, KeysetPagination
from controlplane.api.permissions import Need
from controlplane.kernel.errors import NotFound
from registry import selectors
from registry.api.serializers import (
    AliasMoveOutput,
    AliasOutput,
    GoldenExampleOutput,
    GoldenSetInput,
    GoldenSetOutput,
    ModelFilter,
    ModelOutput,
    VersionDetailOutput,
    VersionOutput,
)
from registry.models import AliasMove, GoldenExample, GoldenSet, Model, Version
from registry.services.golden import upload_golden_set

TAG = ["registry"]


class ByNumber(KeysetPagination):
    ordering = "-number"


class ByPosition(KeysetPagination):
    ordering = "position"


@extend_schema_view(
    get=extend_schema(
        operation_id="models_list",
        summary="Models",
        tags=TAG,
        parameters=[ModelFilter],
    )
)
class ModelList(generics.ListAPIView[Model]):
    """Registered models by name. Deleted ones are left out."""

    serializer_class = ModelOutput
    pagination_class = ByName

    def get_queryset(self) -> QuerySet[Model]:
        return selectors.models_with_counts(ModelFilter.read_query(self.request)["search"])


class OneModel(APIView):
    """One model, also after it was deleted in MLflow (`gone_at` is set then)."""

    @extend_schema(operation_id="models_get", summary="One model", tags=TAG, responses=ModelOutput)
    def get(self, request: Request, name: str) -> Response:
        found = selectors.models_with_counts(include_gone=True).filter(name=name).first()
        if found is None:
            raise NotFound(f"There is no model {name!r}.", fix="GET /api/v1/models lists them.")
        return Response(ModelOutput(found).data)


@extend_schema_view(get=extend_schema(operation_id="versions_list", summary="Versions of a model", tags=TAG))
class VersionList(generics.ListAPIView[Version]):
    """A model's versions, newest first. Deleted ones are left out."""

    serializer_class = VersionOutput
    pagination_class = ByNumber

    def get_queryset(self) -> QuerySet[Version]:
        return selectors.versions_of(model_id=_model_id(self.kwargs))


class VersionDetail(APIView):
    """One version with its manifest."""

    @extend_schema(
        operation_id="versions_get", summary="One version", tags=TAG, responses=VersionDetailOutput
    )
    def get(self, request: Request, name: str, number: int) -> Response:
        return Response(VersionDetailOutput(selectors.get_version(model=name, number=number)).data)


class AliasList(APIView):
    """Where the aliases of a model point now."""

    @extend_schema(
        operation_id="aliases_list", summary="Aliases of a model", tags=TAG, responses=AliasOutput(many=True)
    )
    def get(self, request: Request, name: str) -> Response:
        return Response(AliasOutput(selectors.aliases_of(name=name), many=True).data)


@extend_schema_view(
    get=extend_schema(operation_id="alias_moves_list", summary="History of a model's aliases", tags=TAG)
)
class AliasMoveList(generics.ListAPIView[AliasMove]):
    """Who moved which alias when, newest first: what was in production at any time."""

    serializer_class = AliasMoveOutput

    def get_queryset(self) -> QuerySet[AliasMove]:
        return selectors.moves_of(model_id=_model_id(self.kwargs))


class GoldenSetList(generics.ListAPIView[GoldenSet]):
    """The newest revision of every golden set; POST uploads the next one."""

    serializer_class = GoldenSetOutput
    pagination_class = ByName
    needs = {"POST": Need(Scope.REGISTRY_WRITE, action_of(upload_golden_set))}

    def get_queryset(self) -> QuerySet[GoldenSet]:
        return selectors.newest_golden_sets()

    @extend_schema(operation_id="golden_sets_list", summary="Golden sets", tags=TAG)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="golden_sets_upload",
        summary="Upload a golden set",
        description=(
            "Keeps the examples as the next revision of the set (201). The newest revision's content sent "
            "again gives that revision (200). If any line is wrong nothing is kept, and `extra.errors` names "
            "every line."
        ),
        tags=TAG,
        request=GoldenSetInput,
        responses={200: GoldenSetOutput, 201: GoldenSetOutput},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        values = GoldenSetInput.read(request)
        made, new = upload_golden_set(
            name=values["name"],
            text=values["text"] if "text" in values else values["examples"],
            actor=actor_of(request),
            now=now_of(request),
        )
        code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
        return Response(GoldenSetOutput(made).data, status=code)


@extend_schema_view(
    get=extend_schema(operation_id="golden_revisions_list", summary="Revisions of a golden set", tags=TAG)
)
class GoldenRevisionList(generics.ListAPIView[GoldenSet]):
    """All revisions of one golden set, newest first."""

    serializer_class = GoldenSetOutput

    def get_queryset(self) -> QuerySet[GoldenSet]:
        name = str(self.kwargs["name"])
        selectors.get_golden_set(name=name)
        return selectors.golden_revisions(name=name)


@extend_schema_view(
    get=extend_schema(operation_id="golden_examples_list", summary="Examples of a golden set", tags=TAG)
)
class GoldenExampleList(generics.ListAPIView[GoldenExample]):
    """The examples of one revision, in their order."""

    serializer_class = GoldenExampleOutput
    pagination_class = ByPosition

    def get_queryset(self) -> QuerySet[GoldenExample]:
        found = selectors.get_golden_set(name=self.kwargs["name"], revision=self.kwargs["revision"])
        return selectors.examples_of(golden_set_id=found.pk)


def _model_id(kwargs: dict[str, Any]) -> int:
    return selectors.get_model_id(name=str(kwargs["name"]))
