"""One thing of a list whose stored values are odd: it is shown by its name with what is wrong, the others as ever."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from controlplane.kernel.stored import ODD
from controlplane.passes.words import odd_words, traceback_words
from rollouts.ui.parts.phases import Pill

T = TypeVar("T")
CANNOT_BE_SHOWN = Pill("fail", "Cannot be shown", "circle-x")

log = logging.getLogger(__name__)


def or_odd(what: str, make: Callable[[], T], odd: Callable[[str], T]) -> T:
    """What `make` makes of one thing; where its stored values are odd, what `odd` makes of the sentence that says so.

    what    the thing, as people call it: "rollout #7"
    """
    try:
        return make()
    except ODD as error:
        log.warning("page.row_odd row=%s\n%s", what, traceback_words(error))
        return odd(odd_words(what, error))
