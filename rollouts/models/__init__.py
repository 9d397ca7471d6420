"""The tables of rollouts. The database holds the desired state; the loop makes the world agree with it."""

from rollouts.models.endpoints import Cluster, Endpoint, FilesState, GatePolicyVersion, Variant, Workload
from rollouts.models.evidence import (
    Evidence,
    Feedback,
    FeedbackState,
    MinuteSample,
    OtherCalls,
    ProbeResult,
    UncountedRatings,
)
from rollouts.models.operations import Effect, EffectState, GlobalStop, HistoryEvent
from rollouts.models.records import EvidencePack, LoopDecision, ReplayRun
from rollouts.models.rollouts import Arm, Rollout

__all__ = [
    "Arm",
    "Cluster",
    "Effect",
    "EffectState",
    "Endpoint",
    "Evidence",
    "EvidencePack",
    "Feedback",
    "FeedbackState",
    "FilesState",
    "GatePolicyVersion",
    "GlobalStop",
    "HistoryEvent",
    "LoopDecision",
    "MinuteSample",
    "OtherCalls",
    "ProbeResult",
    "ReplayRun",
    "Rollout",
    "UncountedRatings",
    "Variant",
    "Workload",
]
