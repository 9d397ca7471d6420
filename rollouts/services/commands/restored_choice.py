"""What a release manager says about a database that was restored from an older copy."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from django.db import transaction

from controlplane.access.actors import Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.kernel.errors import Conflict, InvalidInput, NotFound, Refused
from rollouts.domain.lifecycle.effects import EnsureWorkload
from rollouts.domain.restored import CHOICE_OPEN, Restored, RestoredState
from rollouts.models import Endpoint
from rollouts.services.locks import locked_endpoints
from rollouts.services.loop.situation import split
from rollouts.services.writing import add_effects, note_change


@requires(Action.EDIT_ENDPOINT)
def choose_after_restore(
    *,
    endpoint_name: str,
    choice: str,
    actor: Actor,
    now: datetime,
    variant: str = "",
    why: str = "",
) -> Endpoint:
    """Says what an endpoint serves whose database is an older copy; the loop carries it out.

    keep      the variant that serves becomes the stable one and has all traffic; a rollout that the database holds for
              under way is superseded. `variant`: which one, when several serve; else the one with most of the traffic
    return    the router is set to what the database says, once that is ready; its rollout goes on

    A choice may be changed until it is carried out. Raises Forbidden, NotFound, Conflict (nothing is to be chosen),
    InvalidInput (`choice`, `variant`), Refused (that variant cannot be kept).
    """
    if choice not in ("keep", "return"):
        raise InvalidInput(f"{choice!r:.40} is no choice.", field="choice", fix="Choose `keep` or `return`.")
    with transaction.atomic():
        endpoint = locked_endpoints().filter(name=endpoint_name).first()
        if endpoint is None:
            raise NotFound(f"There is no endpoint {endpoint_name!r}.", code="endpoint-not-found")
        if endpoint.restored_state not in CHOICE_OPEN:
            raise Conflict(
                f"Nothing is to be chosen for {endpoint_name}.",
                code="not-held",
                fix="A choice is needed only while an endpoint is held because its database is an older copy.",
            )
        found = Restored.from_json(endpoint.restored)
        if choice == "keep":
            chosen = _kept(found, variant)
            state, title = RestoredState.KEEPING, f"{actor.name} keeps {chosen}, which serves"
        else:
            if variant:
                raise InvalidInput("Only what is kept has a variant.", field="variant", fix="Leave it out.")
            chosen = ""
            state, title = RestoredState.RETURNING, f"{actor.name} returns to what the database says"
            # All that the database wants to have traffic has to run first.
            wanted = tuple(map(EnsureWorkload, sorted(split(endpoint.desired_shares))))
            add_effects(endpoint=endpoint, rollout=None, effects=wanted, now=now)
        before = endpoint.restored_state
        endpoint.restored_state = state
        endpoint.restored = replace(found, choice=chosen, problem="").to_json()
        endpoint.save(update_fields=["restored_state", "restored"])
        note_change(
            endpoint=endpoint,
            action="endpoint.restore-chosen",
            kind="restored",
            title=title,
            detail=why,
            before={"state": before, "served": dict(found.served), "believed": dict(found.believed)},
            after={"state": state.value, "variant": chosen},
            why=why,
            topics=("overview",),
            actor=actor,
            now=now,
        )
    return endpoint


def _kept(found: Restored, variant: str) -> str:
    """The variant that is kept."""
    chosen = variant or found.largest
    if not chosen:
        raise Refused(
            "Nothing serves, so nothing can be kept.", code="cannot-be-kept", fix="Choose `return` instead."
        )
    if chosen not in found.served:
        raise InvalidInput(
            f"{chosen!r} does not serve.", field="variant", fix=f"Serving: {', '.join(sorted(found.served))}."
        )
    problem = found.unkept.get(chosen)
    if problem:
        raise Refused(problem, code="cannot-be-kept", fix="Choose another variant, or `return`.")
    return chosen
