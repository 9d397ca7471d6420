"""A right body for every call of the REST API that takes one."""

from __future__ import annotations

from typing import Any

_POLICY = {"alpha": 0.05, "gates": [{"key": "errors", "kind": "error_rate", "delta": 0.02, "weight": 1}]}
_SERVING = {
    "engine": "vllm",
    "arguments": {"max-model-len": 512},
    "environment": {},
    "resources": {},
    "replicas": 1,
}
_STEPS = [{"share_bp": 500, "hold_seconds": 60, "min_requests": 10, "require_pass": False}]
_TIMES = {"watch_seconds": 60, "no_data_seconds": 60, "deadline_seconds": 3_600, "launch_seconds": 600}
_CANARY = {"strategy": "canary", "steps": _STEPS, **_TIMES}
_BANDIT = {"strategy": "bandit", "bandit": {"beta": 0.5, "floor_bp": 500, "baseline_bp": 1_000}, **_TIMES}
_ACTION = {"expected_revision": 5, "why": "because"}
_EXAMPLE = {
    "messages": [{"role": "user", "content": "hi"}],
    "expected": "hi",
    "scorer": "exact",
    "max_tokens": 8,
}
_PLACE = {
    "run_dir": "/srv/paris",
    "gateway_port": 8_700,
    "gateway_url": "https://paris.example",
    "engine_ports": "18200-18299",
    "engine_memory_mb": 3_200,
}
_YAML = "alpha: 0.05\ngates:\n- {key: errors, kind: error_rate, delta: 0.02, weight: 1}\n"

BODIES: dict[str, tuple[dict[str, Any], ...]] = {
    "clusters_set": (
        {"kind": "local", "configuration": _PLACE, "secret": ""},
        {"kind": "local", "configuration": {}},
    ),
    "endpoints_create": (
        {
            "name": "fresh", "model": "triage", "version": 1, "gate_policy": "triage-default", "golden_set": "tickets",
            "serving": _SERVING, "cluster": "here", "alias": "live", "environment": "production", "rescue": True,
        },
    ),
    "endpoints_feedback": (
        {"request_id": "0123456789", "variant": "", "score": "up", "comment": "good"},
    ),
    "endpoints_set_gate_policy": ({"gate_policy": "triage-default@1", "expected": "triage-default@1"},),
    "endpoints_set_rescue": ({"on": False},),
    "endpoints_choose_after_restore": ({"choice": "keep", "variant": "", "why": "it serves"},),
    "gate_policies_check": (
        {"name": "a", "policy": _POLICY, "endpoint": "idle"},
        {"name": "a", "text": _YAML, "endpoint": "idle"},
    ),
    "gate_policies_define": (
        {"name": "a", "policy": _POLICY, "expected_version": 0, "note": "new"},
        {"name": "a", "text": _YAML},
    ),
    "global_stop_set": ({"on": True, "why": "because"},),
    "golden_sets_upload": (
        {"name": "fresh", "examples": [_EXAMPLE]},
        {"name": "fresh", "text": '{"prompt": "hi", "expected": "hi"}'},
    ),
    "rollouts_start": (
        {
            "endpoint": "idle", "version": 2, "plan": _CANARY, "serving": _SERVING, "gate_policy": "triage-default",
            "note": "n", "supersede": False, "dry_run": False,
        },
        {"endpoint": "idle", "versions": [2, 3], "plan": _BANDIT, "dry_run": True},
    ),
    "rollouts_pause": (_ACTION,),
    "rollouts_resume": (_ACTION,),
    "rollouts_promote": ({**_ACTION, "arm": "candidate"},),
    "rollouts_rollback": (_ACTION,),
    "rollouts_cancel": (_ACTION,),
}  # fmt: skip
