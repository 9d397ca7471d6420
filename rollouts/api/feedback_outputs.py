"""What the API answers about users' ratings. Forms only: no logic."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class FeedbackOutput(serializers.Serializer[Any]):
    """A rating as received; it counts once the router's log has confirmed it."""

    request_id = serializers.CharField()
    endpoint = serializers.CharField(source="endpoint.name")
    variant = serializers.CharField()
    up = serializers.BooleanField()
    state = serializers.CharField()
    received_at = serializers.DateTimeField()


class UncountedRatingsOutput(serializers.Serializer[Any]):
    """Ratings of the last 24 hours that count for no variant."""

    unverifiable = serializers.IntegerField(
        help_text="the router's log has no such answer of the variant that they name"
    )
    forced = serializers.IntegerField(help_text="of a variant that was chosen by header")
    refused = serializers.IntegerField(help_text="not taken: too many of their sender were waiting")
    sentence = serializers.CharField(help_text="the same for people; empty: every rating counted")
