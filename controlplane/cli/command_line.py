"""The command line of `headgate`: options, help, and which command they call. docs/cli.md is its manual."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from controlplane.cli import commands, policies, replay
from controlplane.cli.access import DEFAULT_URL, access_of
from controlplane.cli.client import Client
from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure
from controlplane.cli.output import Printer, Result
from controlplane.cli.strategies import SPOKEN, USUAL

Command = Callable[[Client, argparse.Namespace, Printer], Result]

EXIT_HELP = "exit codes:\n" + "\n".join(f"  {code.value:>3}  {code.meaning}" for code in Exit)
FILES = {
    "file",
    "plan",
    "serving",
    "own_policy",
}  # a file's name may be any bytes; everything else is sent as text
LONGEST_WAIT = 366 * 86_400.0


class HelpAsked(Exception):
    """Somebody asked for help; the message is the help."""


class Parser(argparse.ArgumentParser):
    """Raises what others print and exit with: one place prints, and one ends the process."""

    def error(self, message: str) -> NoReturn:
        raise Failure(Exit.USAGE, f"{self.prog}: {message}", fix=self.format_usage().strip())

    def print_help(self, file: object = None) -> None:
        raise HelpAsked(self.format_help().rstrip())


def run(arguments: Sequence[str], printer: Printer) -> Exit:
    """Runs one command and prints what came of it. Raises Failure, OutputBroke, and whatever else goes wrong."""
    try:
        options = parser().parse_args(arguments)
    except HelpAsked as asked:
        printer.say(str(asked))
        return Exit.OK
    printer.as_json, printer.quiet = options.json, options.quiet
    access = access_of(url=options.url, token=options.token, environment=os.environ)
    _refuse_broken_text(options)
    command: Command = options.command
    with Client(
        url=access.url, token=access.token, proxy=access.proxy, proxy_from=access.proxy_from
    ) as client:
        return printer.result(command(client, options, printer))


def _refuse_broken_text(options: argparse.Namespace) -> None:
    """Raises Failure (usage) for bytes that are no text in this locale; they cannot be sent."""
    for name, value in vars(options).items():
        if name not in FILES and isinstance(value, str) and not value.isprintable():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise Failure(
                    Exit.USAGE, f"{name.replace('_', '-')}: {value!r} is no text in this locale."
                ) from None


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    shared = _shared_options()
    top = Parser(
        prog="headgate",
        description="Rollouts of model versions, from a pipeline.",
        epilog=EXIT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rooms = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _rollout_commands(rooms.add_parser("rollout", help="start and follow rollouts"), shared)

    endpoint = rooms.add_parser(
        "endpoint", help="look at endpoints, and choose after a restore"
    ).add_subparsers(required=True, metavar="ACTION")
    _add(endpoint, shared, "list", commands.endpoints, "all endpoints")
    restored = _add(
        endpoint,
        shared,
        "restore",
        commands.restore,
        "choose what serves after the database was restored from an older copy",
    )
    restored.add_argument("endpoint")
    restored.add_argument(
        "choice",
        choices=["keep", "return"],
        help="keep: what serves becomes the stable variant; return: to what the database says",
    )
    restored.add_argument(
        "--variant", default="", metavar="NAME", help="which one is kept, when several serve"
    )
    restored.add_argument("--why", default="", help="kept in history and audit trail")

    golden = rooms.add_parser("golden", help="golden sets").add_subparsers(required=True, metavar="ACTION")
    upload = _add(golden, shared, "upload", commands.upload_golden, "upload a golden set (JSON Lines)")
    upload.add_argument(
        "name", help="name of the set; other examples under a known name make its next revision"
    )
    upload.add_argument("file", help="one JSON object a line; - reads standard input")

    policy = rooms.add_parser("policy", help="gate policies as files").add_subparsers(
        required=True, metavar="ACTION"
    )
    _policy_commands(policy, shared)

    halt = _add(rooms, shared, "stop", commands.stop, "the global stop: nothing moves forward while it is on")
    halt.add_argument("state", choices=["on", "off", "status"])
    halt.add_argument("--why", default="", help="kept in the audit trail")

    again = _add(rooms, shared, "replay", replay.replay, "do a recorded rollout again, and compare")
    _rollout_argument(again)
    again.add_argument("--policy", metavar="NAME@VERSION", help="what this gate policy would have done")

    _add(rooms, shared, "whoami", commands.whoami, "who the token acts for")
    return top


def _policy_commands(actions: argparse._SubParsersAction[Any], shared: argparse.ArgumentParser) -> None:
    shown = _add(actions, shared, "show", policies.show, "print a gate policy as YAML")
    shown.add_argument("policy", metavar="NAME[@VERSION]", help="without a version its newest")

    checked = _add(actions, shared, "check", policies.check, "what is wrong with a file, or what it would do")
    checked.add_argument("file", help="YAML or JSON; - reads standard input")
    checked.add_argument("--name", default="", help="of which policy it is (default: the name in the file)")
    checked.add_argument("--endpoint", default="", help="whose traffic the numbers are from")

    pushed = _add(actions, shared, "push", policies.push, "store a file as the next version")
    pushed.add_argument("name")
    pushed.add_argument("file", help="YAML or JSON; - reads standard input")
    pushed.add_argument("--note", default="", help="why, kept with the version")
    pushed.add_argument(
        "--expected-version",
        type=int,
        metavar="VERSION",
        help="refuse when there is a newer one; 0: when there is any (default: the version in the file)",
    )
    pushed.add_argument("--idempotency-key", default="", help="store once, however often this command is run")


def _rollout_commands(room: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    actions = room.add_subparsers(required=True, metavar="ACTION")
    begin = _add(
        actions, shared, "start", commands.start, "start a rollout of a version, or of several at once"
    )
    begin.add_argument("endpoint")
    begin.add_argument(
        "versions",
        type=_version,
        nargs="+",
        metavar="VERSION",
        help="number of the model version, 3 or v3; some strategies take several",
    )
    begin.add_argument(
        "--strategy",
        choices=list(SPOKEN),
        default=USUAL,
        help="; ".join(f"{name}: {strategy.ABOUT}" for name, strategy in SPOKEN.items()),
    )
    for strategy in SPOKEN.values():
        strategy.add_options(begin)
    begin.add_argument(
        "--watch-seconds", type=int, default=86_400, help="watch after the promotion (default one day)"
    )
    begin.add_argument("--plan", metavar="FILE", help="the whole plan as JSON, instead of the options above")
    begin.add_argument(
        "--serving", metavar="FILE", help="how to serve it, as JSON (default: as the stable variant)"
    )
    begin.add_argument("--gate-policy", metavar="NAME[@VERSION]", help="default: the endpoint's")
    begin.add_argument(
        "--own-policy",
        metavar="FILE",
        help="a policy for this rollout alone (YAML or JSON); a weaker one needs a release manager",
    )
    begin.add_argument("--note", default="", help="why, for the history")
    begin.add_argument(
        "--supersede", action="store_true", help="take the place of a rollout without traffic yet"
    )
    begin.add_argument(
        "--dry-run", action="store_true", help="only say whether it could start, and what it would do"
    )
    begin.add_argument("--idempotency-key", default="", help="start once, however often this command is run")
    begin.add_argument("--wait", action="store_true", help="then wait, as `rollout wait` does")
    _waiting_options(begin)

    wait = _add(actions, shared, "wait", commands.wait, "wait until it is promoted or rolled back")
    _rollout_argument(wait)
    _waiting_options(wait)

    _rollout_argument(_add(actions, shared, "status", commands.status, "where it is and what its gates say"))

    for action, about in (
        ("pause", "hold the share where it is"),
        ("resume", "go on"),
        ("promote", "move all traffic to the candidate now"),
        ("rollback", "return all traffic to the baseline"),
        ("cancel", "end it before traffic moved"),
    ):
        acting = _add(actions, shared, action, commands.act, about)
        acting.set_defaults(action=action)
        _rollout_argument(acting)
        acting.add_argument("--why", default="", help="kept in history and audit trail")
        acting.add_argument(
            "--expected-revision",
            "--expected-version",  # its old name
            dest="expected_revision",
            type=int,
            metavar="REVISION",
            help="refuse when it moved on since this revision",
        )
        if action == "promote":
            acting.add_argument(
                "--arm", default="", metavar="NAME", help="which one of several, such as candidate-2"
            )

    listing = _add(actions, shared, "list", commands.rollouts, "newest rollouts first")
    listing.add_argument("--endpoint", help="only this endpoint's")
    listing.add_argument("--active", action="store_true", help="only those that are not decided")
    listing.add_argument("--limit", type=int, default=20, help="how many (default 20, at most 200)")


def _shared_options() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--url", help=f"the control plane (or HEADGATE_URL; default {DEFAULT_URL})")
    shared.add_argument("--token", help="an API token (better: HEADGATE_TOKEN, which ps does not show)")
    shared.add_argument("--json", action="store_true", help="print one JSON object with result and reason")
    shared.add_argument("--quiet", action="store_true", help="no progress on standard error")
    shared.add_argument(
        "--debug", action="store_true", help="print where in the program an internal error happened"
    )
    return shared


def _add(
    room: argparse._SubParsersAction[Any],
    shared: argparse.ArgumentParser,
    name: str,
    command: Command,
    about: str,
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = room.add_parser(
        name,
        help=about,
        description=about,
        parents=[shared],
        epilog=EXIT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(command=command)
    return made


def _rollout_argument(made: argparse.ArgumentParser) -> None:
    made.add_argument("rollout", help="its number, or the name of an endpoint for the newest one")


def _waiting_options(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--timeout", type=_seconds, default=3600.0, help="seconds to wait in all (default 3600)"
    )
    made.add_argument(
        "--interval", type=_seconds, default=2.0, help="seconds between two looks (default 2, at least 0.01)"
    )
    made.add_argument(
        "--silence",
        type=_seconds,
        default=300.0,
        help="seconds that the control plane may be away (default 300)",
    )
    made.add_argument("--through-watch", action="store_true", help="wait for the end of the watch, too")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_WAIT:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {LONGEST_WAIT:.0f}")
    return seconds


def _version(text: str) -> int:
    number = text.removeprefix("v")
    if not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no version number; write 3 or v3")
    return int(number)
