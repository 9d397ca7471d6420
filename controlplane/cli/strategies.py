"""Each strategy on the command line: one table. A plan of any other is given as a file (`--plan`)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from controlplane.cli import bandits, canaries
from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure

Options = argparse.Namespace


class SpokenStrategy(Protocol):
    """A module of these.

    ABOUT               what it is, in the help of `--strategy`
    OWN                 the options that are its own, as the parser names them
    VERDICT             the shape of what `/rollouts/ID/verdicts` answers
    ENDS_WITH_VERDICT   whether `wait` says the verdict at the end
    """

    ABOUT: str
    OWN: Sequence[str]
    VERDICT: Mapping[str, Any]
    ENDS_WITH_VERDICT: bool

    def add_options(self, made: argparse.ArgumentParser) -> None:
        """Its options of `rollout start`."""
        ...

    def plan_of(self, options: Options) -> dict[str, Any]:
        """The plan; what was not given has the server's default or ours. Raises Failure (usage)."""
        ...

    def preview_lines(self, preview: Mapping[str, Any]) -> list[str]:
        """What only its dry run says."""
        ...

    def status_lines(self, rollout: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
        """What its evidence says now, below the line of the rollout."""
        ...

    def verdict_data(self, verdict: Mapping[str, Any]) -> dict[str, Any]:
        """The same for `--json`, under its name there."""
        ...

    def end_lines(self, rollout: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
        """What its evidence said at the end; empty when nothing was measured."""
        ...

    def is_undecided(self, rollout: Mapping[str, Any]) -> bool:
        """Whether it ended as "A or B": it holds its shares until a person chooses."""
        ...

    def stage_of(self, rollout: Mapping[str, Any]) -> object:
        """What `wait` tells with a line of its own when it changes."""
        ...

    def share_text(self, rollout: Mapping[str, Any]) -> str:
        """The shares as the router was seen to apply them."""
        ...

    def version_of(self, rollout: Mapping[str, Any], *, decided: bool) -> str:
        """What is rolled out: `v2`."""
        ...


SPOKEN: Mapping[str, SpokenStrategy] = {"canary": canaries, "bandit": bandits}
USUAL = "canary"


def spoken(rollout: Mapping[str, Any]) -> SpokenStrategy:
    """How to speak of a rollout; of one whose strategy this command does not know as of a canary."""
    return SPOKEN.get(str(rollout.get("strategy", USUAL)), canaries)


def is_known(rollout: Mapping[str, Any]) -> bool:
    """Whether this command knows its strategy."""
    return str(rollout.get("strategy", USUAL)) in SPOKEN


def plan_of(options: Options) -> dict[str, Any]:
    """The plan that the options mean. Raises Failure (usage), for an option of another strategy too."""
    chosen = options.strategy
    for name, other in SPOKEN.items():
        for option in other.OWN if name != chosen else ():
            if getattr(options, option) is not None:
                raise Failure(
                    Exit.USAGE,
                    f"--{option.replace('_', '-')} is of a {name}, and this is a {chosen}.",
                    fix=f"Leave it out, or use --strategy {name}.",
                )
    return SPOKEN[chosen].plan_of(options)
