"""Addresses of the rollouts' API, below /api/v1/."""

from __future__ import annotations

from django.urls import URLPattern, path

from rollouts.api import clusters, endpoints, installation, policies, replay, rollouts

urlpatterns: list[URLPattern] = [
    path("clusters", clusters.Clusters.as_view(), name="api-clusters"),
    path("clusters/<str:name>", clusters.OneCluster.as_view(), name="api-cluster"),
    path("clusters/<str:name>/engines", clusters.ClusterEngines.as_view(), name="api-cluster-engines"),
    path(
        "clusters/<str:name>/belongings",
        clusters.ClusterBelongings.as_view(),
        name="api-cluster-belongings",
    ),
    path("endpoints", endpoints.Endpoints.as_view(), name="api-endpoints"),
    path("endpoints/<str:name>", endpoints.OneEndpoint.as_view(), name="api-endpoint"),
    path("endpoints/<str:name>/rescue", endpoints.EndpointRescue.as_view(), name="api-endpoint-rescue"),
    path("endpoints/<str:name>/restored", endpoints.EndpointRestored.as_view(), name="api-endpoint-restored"),
    path("endpoints/<str:name>/variants", endpoints.EndpointVariants.as_view(), name="api-endpoint-variants"),
    path("endpoints/<str:name>/history", endpoints.EndpointHistory.as_view(), name="api-endpoint-history"),
    path("endpoints/<str:name>/feedback", endpoints.EndpointFeedback.as_view(), name="api-endpoint-feedback"),
    path("rollouts", rollouts.Rollouts.as_view(), name="api-rollouts"),
    path("rollouts/<int:rollout_id>", rollouts.OneRollout.as_view(), name="api-rollout"),
    path("rollouts/<int:rollout_id>/pause", rollouts.Pause.as_view(), name="api-rollout-pause"),
    path("rollouts/<int:rollout_id>/resume", rollouts.Resume.as_view(), name="api-rollout-resume"),
    path("rollouts/<int:rollout_id>/promote", rollouts.Promote.as_view(), name="api-rollout-promote"),
    path("rollouts/<int:rollout_id>/rollback", rollouts.RollBack.as_view(), name="api-rollout-rollback"),
    path("rollouts/<int:rollout_id>/cancel", rollouts.Cancel.as_view(), name="api-rollout-cancel"),
    path("rollouts/<int:rollout_id>/history", rollouts.RolloutHistory.as_view(), name="api-rollout-history"),
    path(
        "rollouts/<int:rollout_id>/evidence", rollouts.RolloutEvidence.as_view(), name="api-rollout-evidence"
    ),
    path(
        "rollouts/<int:rollout_id>/verdicts", rollouts.RolloutVerdicts.as_view(), name="api-rollout-verdicts"
    ),
    path("rollouts/<int:rollout_id>/replay", replay.RolloutReplay.as_view(), name="api-rollout-replay"),
    path("global-stop", installation.GlobalStopSwitch.as_view(), name="api-global-stop"),
    path("gate-policies", policies.GatePolicies.as_view(), name="api-gate-policies"),
    path("gate-policies/check", policies.CheckGatePolicy.as_view(), name="api-gate-policy-check"),
    path("gate-policies/<str:reference>", policies.OneGatePolicy.as_view(), name="api-gate-policy"),
    path(
        "endpoints/<str:name>/gate-policy",
        policies.EndpointGatePolicy.as_view(),
        name="api-endpoint-gate-policy",
    ),
]
