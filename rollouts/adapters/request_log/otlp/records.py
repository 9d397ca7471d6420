"""What a gateway says of one answered request: read from its log record, and packed for a store.

All values come as text, as Envoy's command operators give them; "-" is what they say where there is nothing. A record
is foreign: the gateway is trusted by its token, and yet it passes on what users and engines sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, Self

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import Fields, parsed

# The attributes, as deploy/kubernetes/attribution.yaml names them.
ID = "headgate.id"
AT = "headgate.at"
ROUTE = "headgate.route"
METHOD = "headgate.method"
ASKED_FOR = "headgate.asked_for"
VARIANT = "headgate.variant"
STATUS = "headgate.status"
DETAILS = "headgate.details"
ATTRIBUTES = (ID, AT, ROUTE, METHOD, ASKED_FOR, VARIANT, STATUS, DETAILS)
_NAMES = {name.encode(): name for name in ATTRIBUTES}

NOTHING = "-"
MOST_ATTRIBUTES = 64
LONGEST_NAME = 300
LONGEST_ID = 80  # of a request; nobody can rate one with a longer id
SHORTEST_ID = 8
LATEST = 4_102_444_800.0  # the year 2100, in seconds since the epoch
SAID = "A record of the gateway's log"
WHOLE = "via_upstream"

# How Envoy Gateway calls a route: httproute/NAMESPACE/NAME/rule/RULE/match/MATCH and, where there is one, its host.
_ROUTE = re.compile(r"httproute/([a-z0-9.-]{1,63})/([a-z0-9.-]{1,253})/rule/[0-9]{1,4}/match/.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answered:
    """One inference that an engine answered, as the gateway told it.

    namespace, route  of the HTTPRoute that the request took: the gateway says so, and no header can change it
    answered          the variant that the route sent it to
    forced            whether the request named that variant
    at                when the request arrived, in seconds since the epoch
    """

    request_id: str
    namespace: str
    route: str
    answered: str
    forced: bool
    status: int
    at: float

    def packed(self) -> str:
        """Everything but the id, short: a store may hold a million of them."""
        content = [self.namespace, self.route, self.answered, int(self.forced), self.status, self.at]
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def unpacked(cls, request_id: str, packed: str | bytes) -> Self:
        """As `packed` gave it. Raises InvalidInput for what it did not give."""
        said = "What is kept of an answered request"
        entries = Fields({"kept": parsed(packed, said)}, said).entries("kept")
        names = ("namespace", "route", "answered", "forced", "status", "at")
        if len(entries) != len(names):
            raise InvalidInput(
                f"{said} cannot be understood: it has {len(entries)} parts.", code="odd-answer"
            )
        fields = Fields(dict(zip(names, entries, strict=True)), said)
        return cls(
            request_id=request_id,
            namespace=fields.text("namespace", longest=LONGEST_NAME),
            route=fields.text("route", longest=LONGEST_NAME),
            answered=fields.text("answered", longest=LONGEST_NAME),
            forced=bool(fields.whole("forced", least=0, most=1)),
            status=fields.whole("status", least=0, most=999),
            at=fields.number("at", least=0.0, most=LATEST),
        )


def attributes_in(pairs: Sequence[Any]) -> Mapping[str, str]:
    """The texts among a record's attributes (see `wire`), by name; those that are not ours are left aside, and what is
    no UTF-8 is replaced.

    Raises InvalidInput for more attributes than any gateway was told to send.
    """
    if len(pairs) > MOST_ATTRIBUTES:
        raise InvalidInput(f"{SAID} has more than {MOST_ATTRIBUTES} attributes.", code="odd-answer")
    return {
        _NAMES[pair.key]: pair.value.string_value.decode(errors="replace")
        for pair in pairs
        if pair.key in _NAMES and pair.value.HasField("string_value")
    }


def answered_in(attributes: Mapping[str, str]) -> Answered | None:
    """The request, None when it is no inference that an engine of ours answered. Raises InvalidInput.

    Only a POST that a route sent to a variant is an inference: that route sets the response's header. Who was drawn is
    who answered, because nobody answers for another variant on the Gateway API. A request is forced when it named the
    variant that answered it: one that names a variant which the route does not know is drawn like any other.
    """
    fields = Fields({name: value for name, value in attributes.items() if value != NOTHING}, SAID)
    variant = fields.text(VARIANT, "", longest=LONGEST_NAME)
    status = fields.whole(STATUS, 0, least=0, most=999)
    answered = fields.has(DETAILS, WHOLE) or 200 <= status < 300
    route = _ROUTE.fullmatch(fields.exact(ROUTE, "", longest=2 * LONGEST_NAME))
    if not variant or not fields.has(METHOD, "POST") or not answered or route is None:
        return None
    name = fields.exact(ID, longest=LONGEST_ID)
    if len(name) < SHORTEST_ID or not name.isascii() or not name.isprintable():
        raise fields.odd("it is no id of a request", ID)
    return Answered(
        request_id=name,
        namespace=intern(route[1]),  # a few names in many entries
        route=intern(route[2]),
        answered=intern(variant),
        forced=fields.has(ASKED_FOR, variant),
        status=status,
        at=fields.number(AT, least=0.0, most=LATEST),
    )
