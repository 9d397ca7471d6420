"""Probes: golden prompts drawn at random with replacement, asked of all arms, scored in pairs with the baseline."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

import numpy as np
from django.db import IntegrityError, transaction
from django.db.models import Count

from controlplane.kernel.clock import seconds_between
from controlplane.kernel.errors import HeadgateError
from controlplane.passes.words import error_words, in_one_paragraph
from registry.domain.foreign import text
from registry.domain.scoring import score
from registry.models import GoldenExample
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Arm, ProbeResult, Rollout
from rollouts.services.world import World

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 20.0
MAX_WAITING = 50  # prompts
MOST_AT_ONCE = 2  # prompts on the way: probes are not to be load
PROBED = (Phase.PROGRESSING.value, Phase.PAUSED.value, Phase.PROMOTING.value, Phase.SUCCEEDED.value)


def probes_are_due(rollout: Rollout) -> bool:
    """True while a rollout has traffic (or is watched) and its policy has a gate on a golden set."""
    if rollout.phase not in PROBED or (rollout.phase == Phase.SUCCEEDED.value and not rollout.watching):
        return False
    if rollout.endpoint.golden_set_id is None:
        return False
    return any(gate.kind == "paired" for gate in rollout.policy.gates)


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
    """Asks the next few prompts of all arms and keeps the scored pairs; returns how many were kept.

    The baseline is asked once a prompt, for all candidates together. A prompt that one of a pair did not answer is
    kept with its problem and without scores. Should two workers probe at once, each draw is kept once. The number of
    answers that wait to be used is bounded, and so is the time: no prompt is begun after PATIENCE_SECONDS, or after one
    that somebody did not answer within `world.probe_timeout`.
    """
    rollout = (
        Rollout.objects.select_related("endpoint", "baseline", "candidate", "gate_policy")
        .filter(pk=rollout_id)
        .first()
    )
    if rollout is None or not probes_are_due(rollout):
        return 0
    waiting = ProbeResult.objects.filter(rollout=rollout, interval__isnull=True)
    if waiting.aggregate(prompts=Count("number", distinct=True))["prompts"] >= MAX_WAITING:
        return 0
    last = (
        ProbeResult.objects.filter(rollout=rollout)
        .order_by("-number")
        .values_list("number", flat=True)
        .first()
    )
    first = 0 if last is None else last + 1
    examples = draw_examples(rollout, first, world.probe_pairs)
    candidates = _candidates(rollout)
    kept = 0
    began = world.clock.reading()
    with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
        for number, example in enumerate(examples, start=first):
            asking = world.clock.reading()
            if seconds_between(began, asking) > PATIENCE_SECONDS:
                break  # somebody is slow: the next round goes on, and other rollouts have their turn
            ask = partial(_ask, world, rollout.endpoint.name, example)
            asked = _order(rollout, number, (rollout.baseline.name, *candidates.values()))
            by_name = {name: (text, problem) for name, text, problem in pool.map(ask, asked)}
            kept += _keep(rollout, number, example, candidates, by_name, asking.at)
            if seconds_between(asking, world.clock.reading()) >= world.probe_timeout:
                break  # somebody hangs: what is asked next would wait as long
    return kept


def _candidates(rollout: Rollout) -> dict[str, str]:
    """Variant by arm, of the candidates that are in the race."""
    arms = Arm.objects.filter(rollout=rollout, dropped_at__isnull=True).exclude(name=BASELINE).order_by("pk")
    return dict(arms.values_list("name", "variant__name"))


def _order(rollout: Rollout, number: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """Who is asked first changes at random, so that nobody always meets a warm cache."""
    rng = np.random.default_rng([rollout.pk, number, 1])
    if len(names) == 2:
        return names if rng.integers(2) else (names[1], names[0])
    return tuple(names[position] for position in rng.permutation(len(names)))


def _ask(world: World, endpoint: str, example: GoldenExample, variant: str) -> tuple[str, str | None, str]:
    try:
        answer = world.prober.ask(
            endpoint=endpoint,
            variant=variant,
            messages=tuple(example.messages),
            max_tokens=example.max_tokens,
            timeout=world.probe_timeout,
        )
        return variant, text(answer.text), ""
    except HeadgateError as error:
        return variant, None, f"{variant}: {in_one_paragraph(error.message)}"
    except Exception as error:  # an odd answer is this prompt's, as no answer is
        log.warning("probe.odd_answer variant=%s example=%s %s", variant, example.pk, error_words(error))
        return variant, None, f"{variant}: {error_words(error)}"


def _keep(
    rollout: Rollout,
    number: int,
    example: GoldenExample,
    candidates: Mapping[str, str],
    answers: Mapping[str, tuple[str | None, str]],
    asked_at: datetime,
) -> int:
    """Keeps one prompt's pairs, all or none; returns how many."""
    baseline, baseline_problem = answers[rollout.baseline.name]
    results = []
    for arm, variant in candidates.items():
        candidate, candidate_problem = answers[variant]
        result = ProbeResult(
            rollout=rollout,
            number=number,
            arm=arm,
            example=example,
            answer_baseline=baseline or "",
            answer_candidate=candidate or "",
            problem=" ".join(filter(None, (baseline_problem, candidate_problem))),
            asked_at=asked_at,
        )
        if baseline is not None and candidate is not None:
            _score(result, baseline, candidate)
        results.append(result)
    try:
        with transaction.atomic():
            ProbeResult.objects.bulk_create(results)
    except IntegrityError:
        log.info("probe.kept_by_another_worker rollout=%s number=%s", rollout.pk, number)
        return 0
    return len(results)


def _score(result: ProbeResult, baseline: str, candidate: str) -> None:
    """Both scores, or neither and the reason."""
    example = result.example
    try:
        scores = [score(answer, example.expected, example.scorer) for answer in (baseline, candidate)]
    except Exception as error:  # an answer or an example that cannot be scored is this prompt's
        log.warning("probe.not_scored example=%s %s", example.pk, error_words(error))
        result.problem = f"It could not be scored: {error_words(error)}"
        return
    result.score_baseline, result.score_candidate = scores
