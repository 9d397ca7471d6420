"""Probes: golden prompts drawn at random with replacement, sent to both variants, scored in pairs."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

import numpy as np
from django.db import IntegrityError, transaction

from controlplane.kernel.errors import HeadgateError
from registry.domain.scoring import score
from registry.models import GoldenExample
from rollouts.domain.states import Phase
from rollouts.models import ProbeResult, Rollout
from rollouts.services.world import World

log = logging.getLogger(__name__)

MAX_WAITING = 50
PROBED = (Phase.PROGRESSING.value, Phase.PAUSED.value, Phase.PROMOTING.value, Phase.SUCCEEDED.value)


def probes_are_due(rollout: Rollout) -> bool:
    """True while a rollout has traffic (or is watched) and its policy has a gate on a golden set."""
    if rollout.phase not in PROBED or (rollout.phase == Phase.SUCCEEDED.value and not rollout.watching):
        return False
    if rollout.endpoint.golden_set_id is None:
        return False
    return any(gate.kind == "paired" for gate in rollout.gate_policy.policy.gates)


def draw_examples(rollout: Rollout, first: int, count: int) -> list[GoldenExample]:
    """The examples of draws `first`, `first` + 1 ...: random with replacement, the same for everyone who asks."""
    golden = list(
        GoldenExample.objects.filter(golden_set=rollout.endpoint.golden_set_id).order_by("position")
    )
    if not golden:
        return []
    picks = [
        int(np.random.default_rng([rollout.pk, number]).integers(len(golden)))
        for number in range(first, first + count)
    ]
    return [golden[pick] for pick in picks]


def probe_rollout(*, rollout_id: int, world: World) -> int:
    """Asks the next few prompts of both variants and keeps the scored pairs; returns how many were kept.

    A prompt that one of the two did not answer is kept with its problem and without scores. Two workers may probe at
    once: each draw is kept once. The number of answers that wait to be used is bounded.
    """
    rollout = (
        Rollout.objects.select_related("endpoint", "baseline", "candidate", "gate_policy")
        .filter(pk=rollout_id)
        .first()
    )
    if rollout is None or not probes_are_due(rollout):
        return 0
    if ProbeResult.objects.filter(rollout=rollout, interval__isnull=True).count() >= MAX_WAITING:
        return 0
    last = (
        ProbeResult.objects.filter(rollout=rollout)
        .order_by("-number")
        .values_list("number", flat=True)
        .first()
    )
    first = 0 if last is None else last + 1
    examples = draw_examples(rollout, first, world.probe_pairs)
    kept = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for number, example in enumerate(examples, start=first):
            asked_at = world.clock.now()
            ask = partial(_ask, world, rollout.endpoint.name, example)
            answers = list(pool.map(ask, _order(rollout, number)))
            by_name = {name: (text, problem) for name, text, problem in answers}
            kept += _keep(rollout, number, example, by_name, asked_at)
    return kept


def _order(rollout: Rollout, number: int) -> tuple[str, str]:
    """Who is asked first changes at random, so that neither always meets a warm cache."""
    pair = (rollout.baseline.name, rollout.candidate.name)
    return pair if np.random.default_rng([rollout.pk, number, 1]).integers(2) else (pair[1], pair[0])


def _ask(world: World, endpoint: str, example: GoldenExample, variant: str) -> tuple[str, str | None, str]:
    try:
        answer = world.prober.ask(
            endpoint=endpoint,
            variant=variant,
            messages=tuple(example.messages),
            max_tokens=example.max_tokens,
            timeout=world.probe_timeout,
        )
    except HeadgateError as error:
        return variant, None, f"{variant}: {error.message}"
    return variant, answer.text, ""


def _keep(
    rollout: Rollout,
    number: int,
    example: GoldenExample,
    answers: dict[str, tuple[str | None, str]],
    asked_at: datetime,
) -> int:
    baseline, baseline_problem = answers[rollout.baseline.name]
    candidate, candidate_problem = answers[rollout.candidate.name]
    problem = " ".join(filter(None, (baseline_problem, candidate_problem)))
    result = ProbeResult(
        rollout=rollout,
        number=number,
        example=example,
        answer_baseline=baseline or "",
        answer_candidate=candidate or "",
        problem=problem,
        asked_at=asked_at,
    )
    if baseline is not None and candidate is not None:
        result.score_baseline = score(baseline, example.expected, example.scorer)
        result.score_candidate = score(candidate, example.expected, example.scorer)
    try:
        with transaction.atomic():
            result.save()
    except IntegrityError:
        log.info("probe.kept_by_another_worker rollout=%s number=%s", rollout.pk, number)
        return 0
    return 1
