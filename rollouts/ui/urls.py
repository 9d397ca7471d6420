"""Addresses of the pages of rollouts and endpoints."""

from __future__ import annotations

from django.urls import path

from rollouts.ui.cluster import views as cluster
from rollouts.ui.endpoint import views as endpoint
from rollouts.ui.new import views as new
from rollouts.ui.overview import views as overview
from rollouts.ui.policies import views as policies
from rollouts.ui.replay import views as replay
from rollouts.ui.rollout import views as rollout

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("stop", overview.global_stop, name="global-stop"),
    path("endpoints", endpoint.endpoints, name="endpoints"),
    path("endpoints/<slug:name>", endpoint.endpoint, name="endpoint"),
    path("endpoints/<slug:name>/restored", endpoint.restored, name="endpoint-restored"),
    path("endpoints/<slug:name>/events", endpoint.events, name="endpoint-events"),
    path("endpoints/<slug:name>/charts/<slug:chart_name>", endpoint.chart, name="endpoint-chart"),
    path("clusters/<str:name>", cluster.cluster, name="cluster"),
    path("clusters/<str:name>/adopt/<str:server>", cluster.adopt, name="cluster-adopt"),
    path("rollouts", overview.rollouts, name="rollouts"),
    path("rollouts/new", new.new_rollout, name="rollout-new"),
    path("rollouts/new/plan", new.plan, name="rollout-plan"),
    path("policies", policies.policies, name="policies"),
    path("policies/new", policies.new_policy, name="policy-new"),
    path("policies/<str:name>", policies.policy, name="policy"),
    path("policies/<str:name>/edit", policies.edit_policy, name="policy-edit"),
    path("policies/<str:name>/use", policies.use, name="policy-use"),
    path("models/<str:name>/deployed", endpoint.deployed, name="model-deployed"),
    path("rollouts/<int:rollout_id>", rollout.rollout, name="rollout"),
    path("rollouts/<int:rollout_id>/events", rollout.events, name="rollout-events"),
    path("rollouts/<int:rollout_id>/replay", replay.replay, name="rollout-replay"),
    path("policies/<str:name>/<int:version>/try", replay.try_policy, name="policy-try"),
    path("rollouts/<int:rollout_id>/charts/<slug:name>", rollout.chart, name="rollout-chart"),
    path("rollouts/<int:rollout_id>/confirm/choose", rollout.choose, name="rollout-choose"),
    path("rollouts/<int:rollout_id>/confirm/<slug:action>", rollout.confirmation, name="rollout-confirm"),
    path("rollouts/<int:rollout_id>/<slug:action>", rollout.act, name="rollout-act"),
]
