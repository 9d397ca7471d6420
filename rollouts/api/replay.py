"""Calls about replays of rollouts."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.api.callers import actor_of, now_of
from controlplane.api.inputs import LONGEST_REFERENCE, Input
from rollouts import selectors
from rollouts.services.evidence.replay import replay_part

TAGS = ["rollouts"]


class ReplayFilter(Input):
    """Under which policy, and which replay to go on with."""

    policy = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=LONGEST_REFERENCE,
        help_text="NAME@VERSION: what this gate policy would have done; left out: what was recorded, again",
    )
    run = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="the replay that a 202 named: go on with it"
    )


class DifferenceOutput(serializers.Serializer[Any]):
    """A value that came out differently; of another policy the whole decision, with its `moment`."""

    row = serializers.CharField(required=False, help_text="interval 17, or decision 2 between intervals")
    at = serializers.FloatField(required=False, help_text="seconds since the epoch")
    path = serializers.CharField(required=False, help_text="such as verdicts.verdicts[2].evidence")
    moment = serializers.DictField(required=False)
    recorded = serializers.JSONField()
    replayed = serializers.JSONField()


class MomentOutput(serializers.Serializer[Any]):
    """When something happened: `after` seconds since traffic began."""

    row = serializers.CharField()
    at = serializers.FloatField()
    after = serializers.FloatField()
    cause = serializers.CharField(allow_blank=True)
    sentence = serializers.CharField(allow_blank=True)


class ChangeOutput(serializers.Serializer[Any]):
    """A verdict that became another one."""

    row = serializers.CharField()
    at = serializers.FloatField()
    after = serializers.FloatField()
    gate = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field, not the form's label
    verdict = serializers.CharField()
    sentence = serializers.CharField()


class CourseOutput(serializers.Serializer[Any]):
    """What one policy said over the rollout: when it first wanted the traffic back, first passed, and decided."""

    policy = serializers.CharField()
    rollback = MomentOutput(allow_null=True)
    passed = MomentOutput(allow_null=True)
    decided = MomentOutput(allow_null=True)
    changes = ChangeOutput(many=True)
    left_out = serializers.IntegerField(help_text="further changes of verdicts")
    verdicts = serializers.DictField(help_text="the last one of each gate")


class ReplayReportOutput(serializers.Serializer[Any]):
    """A finished replay."""

    kind = serializers.ChoiceField(choices=["replay", "what-if"])
    rollout = serializers.IntegerField()
    endpoint = serializers.CharField()
    policy = serializers.CharField()
    outcome = serializers.ChoiceField(choices=["identical", "equal", "differs", "same"])
    sentence = serializers.CharField()
    intervals = serializers.IntegerField()
    decisions = serializers.IntegerField()
    digest = serializers.CharField(help_text="of the last interval; keep a copy elsewhere to prove it later")
    promise = serializers.CharField(help_text="identical under the same software, equal under another")
    kept = serializers.BooleanField(help_text="whether the promise was kept")
    log_e = serializers.FloatField(allow_null=True, help_text="largest difference of log E; null: infinite")
    software = serializers.CharField(help_text="with which it was replayed")
    recorded_with = serializers.ListField(child=serializers.CharField())
    seconds = serializers.FloatField()
    first = DifferenceOutput(allow_null=True)
    first_other = DifferenceOutput(allow_null=True)
    reworded = serializers.IntegerField(
        help_text="sentences that are only worded differently today; they are no difference"
    )
    first_reworded = DifferenceOutput(allow_null=True, help_text="the first of them")
    recorded = CourseOutput(allow_null=True)
    replayed = CourseOutput(allow_null=True)
    limit = serializers.CharField(help_text="what cannot be said about another policy")
    checked = serializers.ListField(child=serializers.CharField())


class ReplayOutput(serializers.Serializer[Any]):
    """A replay: its `report` when it is done, else how far it came and the `run` to go on with."""

    state = serializers.ChoiceField(choices=["done", "underway"])
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    run = serializers.UUIDField(allow_null=True)
    report = ReplayReportOutput(allow_null=True)


class RolloutReplay(APIView):
    """Does a rollout again from its evidence."""

    @extend_schema(
        operation_id="rollouts_replay",
        summary="Replay a rollout",
        description=(
            "The recorded intervals go through the same gates and decisions again. One call works for about two "
            "seconds; a longer replay is answered with 202 and a `run`: ask again with `run=` until it is 200. "
            "Evidence that was changed after it was written is refused with 422, code `evidence-tampered`, and the "
            "row in `extra.row`."
        ),
        tags=TAGS,
        parameters=[ReplayFilter],
        responses={200: ReplayOutput, 202: ReplayOutput},
    )
    def get(self, request: Request, rollout_id: int) -> Response:
        asked = ReplayFilter.read_query(request, besides=())
        part = replay_part(
            rollout=selectors.find_rollout(rollout_id),
            policy=selectors.find_gate_policy(asked["policy"], field="policy") if asked["policy"] else None,
            key=asked["run"],
            actor=actor_of(request),
            now=now_of(request),
        )
        body = {
            "state": "done" if part.report is not None else "underway",
            "done": part.done,
            "total": part.total,
            "run": part.key,
            "report": None if part.report is None else part.report.to_json(),
        }
        done = part.report is not None
        return Response(
            ReplayOutput(body).data, status=status.HTTP_200_OK if done else status.HTTP_202_ACCEPTED
        )
