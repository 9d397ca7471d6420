"""What clients send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

LONGEST_NAME = 256  # of anything that is only looked up by it
LONGEST_REFERENCE = 80  # NAME@VERSION of a gate policy
LARGEST_NUMBER = 2**31 - 1  # of versions, revisions and intervals: what their columns hold


class Input(serializers.Serializer[Any]):
    """A form of input that refuses names it does not know: a misspelt option must not be ignored silently."""

    @classmethod
    def read(cls, request: Request) -> dict[str, Any]:
        """The body of the request, checked. Raises ValidationError naming every wrong field."""
        return _checked(cls(data=request.data))

    @classmethod
    def read_query(
        cls, request: Request, *, besides: tuple[str, ...] = ("limit", "cursor")
    ) -> dict[str, Any]:
        """The query of the request, checked. `besides` are parameters that somebody else reads."""
        query = {name: value for name, value in request.query_params.items() if name not in besides}
        return _checked(cls(data=query))

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = sorted(set(map(str, data)) - set(self.fields))
            if unknown:
                known = ", ".join(self.fields) or "none"
                raise serializers.ValidationError(
                    dict.fromkeys(unknown, f"This name is not known here; known are: {known}."),
                    code="unknown-field",
                )
        return super().to_internal_value(data)


def _checked(form: Input) -> dict[str, Any]:
    form.is_valid(raise_exception=True)
    return dict(form.validated_data)
