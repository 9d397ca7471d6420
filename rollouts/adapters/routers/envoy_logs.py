"""What Envoy counts and writes down about each request: pure data, a part of envoy_config.

    llm.arrived     when a request arrives, by the cluster that the route chose (it is chosen by then)
    llm.requests    when it ended, by how it ended
    llm.ttft        until the first body byte of an answer, those who left in the middle of it too
    llm.duration    whole answers, to the end of their body
    llm.left_ttft, llm.left_duration    how long those had waited who left, also those who left at [DONE]

A request that no backend could take is counted too. What the tags mean is read in signals/envoy_stats.

Decisions
- Every tag has a few values, whatever clients and engines send: names from the configuration, a status, Envoy's flags
  and fixed words. Nothing out of a request or an answer ever becomes a tag.
- `got` tells how far the answer came: "whole" (a backend's, to its end), "part" (some of a body was sent) or
  "nothing". Flags do not: vLLM sends a stream's headers before its first token, so a client that leaves while it waits
  for that token has status 200 and the flag DC, as one that leaves in the middle has.
- A stream whose `[DONE]` was passed on is whole, though the client may close the connection before the end of the body
  that follows it a moment later: OpenAI's synchronous client does. The sse filter cannot name `[DONE]`, which is no
  JSON, so a few lines of Lua look at the end of each piece.
- Refusals and errors are not timed: a fast 400 must not make an arm look fast.

Source: the API v3 reference of Envoy 1.40, "Access logging"; each way to end was tried on that version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rollouts.adapters.routers.envoy_routes import ANSWERED_BY, TYPE

# Envoy's short flags by which the client broke a request off: left, reset its stream, or sent what is no HTTP.
LEFT_FLAGS = ("DC", "DR", "DPE")
NO_STATUS = 0  # the client left before any status was sent
CLIENT_CLOSED = 499  # what some engines and gateways put down when the client left
WHOLE, PART, NOTHING = "whole", "part", "nothing"

DONE = "llm.done"  # the metadata that NOTE_DONE leaves behind
NOTE_DONE = f"""
local mark = "\\ndata: ?%[DONE%]"
local longest = 20  -- bytes: the mark and the empty line that ends it
function envoy_on_response(handle)
  local kind = handle:headers():get("content-type")
  if kind == nil or kind:find("text/event-stream", 1, true) ~= 1 then return end
  local last = "\\n"
  for piece in handle:bodyChunks() do
    local length = piece:length()
    local from = math.max(0, length - longest)
    last = (last .. piece:getBytes(from, length - from)):sub(-longest)
    if last:find(mark) then handle:streamInfo():dynamicMetadata():set("{DONE}", "said", "yes") end
  end
end
"""  # A line break: no text that a model writes can look like it, because JSON has none inside a text.

_VIA_UPSTREAM = "response.code_details == 'via_upstream'"
_WHOLE = f"({_VIA_UPSTREAM} || '{DONE}' in metadata.filter_metadata)"
_SENT = "response.size > 0"


def access_logs(path: Path) -> list[dict[str, Any]]:
    """The counters, the histograms and the log file, which is at `path`."""
    arm = {"cluster": "%UPSTREAM_CLUSTER_RAW%", "variant": ANSWERED_BY}
    ended = {
        **arm,
        "route": "%ROUTE_NAME%",
        "stream_error": "%DYNAMIC_METADATA(llm.sse:error)%",
        "got": f"%CEL({_WHOLE} ? '{WHOLE}' : {_SENT} ? '{PART}' : '{NOTHING}')%",
        "code": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
    }
    success = [_status("GE", 200), _status("LE", 299)]
    left = _any(_left(), _status("EQ", NO_STATUS), _status("EQ", CLIENT_CLOSED))
    return [
        _stats(_only("DownstreamStart"), counters=[_counter("arrived", {"cluster": arm["cluster"]})]),
        _stats(_only("DownstreamEnd"), counters=[_counter("requests", ended)]),
        _stats(
            _all(_only("DownstreamEnd"), *success, when(_SENT)),
            histograms=[_since_arrival("ttft", "US_RX_BODY_BEG", ended)],
        ),
        _stats(
            _all(_only("DownstreamEnd"), *success, when(_VIA_UPSTREAM)),
            histograms=[_since_arrival("duration", "DS_TX_END", ended)],
        ),
        _stats(
            _all(_only("DownstreamEnd"), left),
            histograms=[_waited("left_ttft", ended), _waited("left_duration", ended)],
        ),
        _file(path),
    ]


def _status(comparison: str, code: int) -> dict[str, Any]:
    value = {"default_value": code, "runtime_key": f"headgate.status_{comparison.lower()}_{code}"}
    return {"status_code_filter": {"comparison": {"op": comparison, "value": value}}}


def _only(kind: str) -> dict[str, Any]:
    return {"log_type_filter": {"types": [kind]}}


def _all(*filters: dict[str, Any]) -> dict[str, Any]:
    return {"and_filter": {"filters": list(filters)}}


def _any(*filters: dict[str, Any]) -> dict[str, Any]:
    return {"or_filter": {"filters": list(filters)}}


def _left() -> dict[str, Any]:
    return {"response_flag_filter": {"flags": list(LEFT_FLAGS)}}


def when(expression: str) -> dict[str, Any]:
    """A filter: requests of which this expression of the Common Expression Language is true."""
    kind = TYPE + "extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    return {"extension_filter": {"name": "cel", "typed_config": {"@type": kind, "expression": expression}}}


def _stats(condition: dict[str, Any], **values: Any) -> dict[str, Any]:
    kind = TYPE + "extensions.access_loggers.stats.v3.Config"
    config = {"@type": kind, "stat_prefix": "llm", **values}
    return {"name": "envoy.access_loggers.stats", "filter": condition, "typed_config": config}


def _tags(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value_format": value} for name, value in values.items()]


def _counter(name: str, tags: dict[str, str]) -> dict[str, Any]:
    return {"value_fixed": 1, "stat": {"name": name, "tags": _tags(tags)}}


def _since_arrival(name: str, until: str, tags: dict[str, str]) -> dict[str, Any]:
    """A histogram of the time from a request's first byte until the named moment, in microseconds."""
    value = f"%COMMON_DURATION(DS_RX_BEG:{until}:us)%"
    return {"unit": "Microseconds", "value_format": value, "stat": {"name": name, "tags": _tags(tags)}}


def _waited(name: str, tags: dict[str, str]) -> dict[str, Any]:
    """A histogram of how long requests lived, in milliseconds: whoever leaves has no last byte to measure until."""
    return {"unit": "Milliseconds", "value_format": "%DURATION%", "stat": {"name": name, "tags": _tags(tags)}}


def _file(path: Path) -> dict[str, Any]:
    line = {
        "at": "%START_TIME(%s.%3f)%",
        "id": "%REQ(X-REQUEST-ID)%",
        "route": "%ROUTE_NAME%",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "variant": ANSWERED_BY,
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "ms": "%DURATION%",
        "ttft_ms": "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%",
    }
    kind = TYPE + "extensions.access_loggers.file.v3.FileAccessLog"
    config = {"@type": kind, "path": str(path), "log_format": {"json_format": line}}
    return {
        "name": "envoy.access_loggers.file",
        "filter": _only("DownstreamEnd"),
        "typed_config": config,
    }
