"""What the API answers about bandits. Forms only: no logic. `docs/statistics.md` says what the numbers mean."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rollouts.api.verdict_outputs import VerdictsOutput
from rollouts.domain.gates.checks import LARGEST_COUNT

ARM_STATES = [(state, state) for state in ("racing", "eliminated", "dropped")]


class BanditForm(serializers.Serializer[Any]):
    """How a bandit learns; what is left out has its default."""

    reward = serializers.ChoiceField(
        choices=["feedback"], default="feedback", help_text="an answer earns 1, or 0 when it was rated down"
    )
    alpha = serializers.FloatField(
        default=0.05,
        min_value=0,
        max_value=1,
        help_text="the best arm is dropped by mistake with probability at most this",
    )
    beta = serializers.FloatField(
        default=0.5,
        min_value=0,
        max_value=1,
        help_text="the dial: high keeps regret low, low decides sooner; above 0 to 1",
    )
    floor_bp = serializers.IntegerField(
        default=500, min_value=0, max_value=5_000, help_text="least share of a candidate in the race"
    )
    baseline_bp = serializers.IntegerField(
        default=1_000, min_value=1, max_value=9_000, help_text="least share of the baseline, always"
    )
    burn_in = serializers.IntegerField(
        default=200,
        min_value=0,
        max_value=LARGEST_COUNT,
        help_text="answers of each arm at equal shares before weights move",
    )
    reweight_seconds = serializers.FloatField(
        default=60.0,
        min_value=1,
        max_value=86_400,
        help_text="of exposure between two changes of the weights",
    )
    min_change_bp = serializers.IntegerField(
        default=200, min_value=0, max_value=5_000, help_text="a smaller change of the weights is skipped"
    )
    discount = serializers.FloatField(
        default=1.0,
        min_value=0.5,
        max_value=1,
        help_text="below 1 forgets old rewards, for arms that drift apart",
    )


class EstimateOutput(serializers.Serializer[Any]):
    """A mean reward with its always-valid interval."""

    mean = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()


class ArmVerdictOutput(serializers.Serializer[Any]):
    """One arm, now. Rewards are those of answers: 1, or 0 when it was rated down."""

    name = serializers.CharField()
    state = serializers.ChoiceField(choices=ARM_STATES)
    cause = serializers.CharField(help_text="why it left; empty while it races")
    sentence = serializers.CharField()
    at_index = serializers.IntegerField(allow_null=True, help_text="the interval it left in")
    scored = serializers.IntegerField(help_text="answers with a reward")
    mean = serializers.FloatField(
        allow_null=True, help_text="of the reward, without ups and downs that all arms share"
    )
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    sd = serializers.FloatField(allow_null=True)
    ipw = EstimateOutput(allow_null=True, help_text="the reward for reports")
    p_best = serializers.FloatField(help_text="chance to be the best; steers the weights, decides nothing")
    expected_loss = serializers.FloatField(allow_null=True, help_text="reward that choosing it would cost")
    evidence = serializers.FloatField(help_text="that it is not the best; it leaves at `threshold`")
    beaten_by = serializers.CharField()
    wanted_bp = serializers.IntegerField()
    gates_passed = serializers.IntegerField()
    gates_required = serializers.IntegerField()


class ReweightOutput(serializers.Serializer[Any]):
    """What the newest interval decided about the weights."""

    due = serializers.BooleanField()
    skipped = serializers.BooleanField()
    change_bp = serializers.IntegerField(help_text="the largest change of a share")
    sentence = serializers.CharField()


class BanditVerdictsOutput(serializers.Serializer[Any]):
    """What a bandit's evidence says. Empty `arms`: nothing was measured yet."""

    kind = serializers.CharField(default="bandit")
    sentence = serializers.CharField(default="")
    detail = serializers.CharField(default="")
    alpha = serializers.FloatField(default=None, allow_null=True)
    beta = serializers.FloatField(default=None, allow_null=True)
    threshold = serializers.FloatField(
        default=None, allow_null=True, help_text="an arm leaves at this evidence"
    )
    burn_in = serializers.BooleanField(default=False, help_text="the shares still are equal")
    arms = ArmVerdictOutput(many=True, default=list)
    gates = serializers.DictField(child=VerdictsOutput(), default=dict, help_text="by candidate arm")
    wanted = serializers.DictField(child=serializers.IntegerField(), default=dict)
    reweight = ReweightOutput(default=None, allow_null=True)
    survivors = serializers.ListField(child=serializers.CharField(), default=list)
    winner = serializers.CharField(default="", help_text="the only arm left, once its required gates pass")
    sole_survivor = serializers.CharField(default="")
    tied = serializers.ListField(child=serializers.CharField(), default=list)
    tie_sentence = serializers.CharField(default="", help_text="what is said if it ends like this: A or B")


class ArmForecastOutput(serializers.Serializer[Any]):
    """One arm at the start; shares in basis points."""

    name = serializers.CharField()
    variant = serializers.CharField()
    version = serializers.IntegerField()
    share_bp = serializers.IntegerField(help_text="at first")
    floor_bp = serializers.IntegerField(help_text="the least it keeps while it is in the race")
    load = serializers.FloatField(help_text="of one of its replicas against one of the baseline, at first")
    load_leading = serializers.FloatField(help_text="the same once it is the only candidate left")
    latency_first = serializers.CharField(help_text="what a latency gate may say of it at first")
    latency_leading = serializers.CharField(help_text="and once it is the only candidate left")


class DecidableOutput(serializers.Serializer[Any]):
    """After `seconds` the others are dropped if the best arm is rated down at most `best_rate` of the time."""

    seconds = serializers.FloatField()
    best_rate = serializers.FloatField(allow_null=True)


class BanditOutlookOutput(serializers.Serializer[Any]):
    """What the ratings can decide in which time, at equal shares."""

    base_rate = serializers.FloatField(help_text="share of the stable variant's answers rated down")
    burn_in_seconds = serializers.FloatField()
    half_answers = serializers.IntegerField(
        allow_null=True, help_text="of each arm, if the best is rated down half as often"
    )
    half_seconds = serializers.FloatField(allow_null=True)
    decidable = DecidableOutput(many=True)
    sentence = serializers.CharField()


class BanditPreviewOutput(serializers.Serializer[Any]):
    """What only a bandit's dry run has. `outlook` is null while nobody rates answers or nobody asks."""

    arms = ArmForecastOutput(many=True)
    engines = serializers.IntegerField(help_text="replicas of all arms")
    new_engines = serializers.IntegerField(help_text="of those, the ones that do not run yet")
    gate_alpha = serializers.FloatField(
        help_text="a candidate that is no worse is dropped by its guardrails with probability at most this"
    )
    answers_per_second = serializers.FloatField()
    ratings = serializers.IntegerField(help_text="in the last 24 h")
    ratings_per_hour = serializers.FloatField()
    rated_down = serializers.FloatField(allow_null=True)
    outlook = BanditOutlookOutput(allow_null=True)
