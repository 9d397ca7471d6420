"""Every command that a text names exists and takes the arguments it is named with; nothing is installed or changed."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import re
import subprocess
from collections.abc import Sequence

import pytest
from django.core.management import get_commands, load_command_class
from django.urls import Resolver404, resolve

from controlplane.cli.command_line import HelpAsked
from controlplane.cli.command_line import parser as headgate
from controlplane.cli.failure import Failure
from controlplane.web import shell
from deploy.bootstrap.__main__ import parser as bootstrap
from tests.docs.remedies import ROOMS, ROOT, Named, named_commands, texts

# What .ci/run installs, and what is told to those whose Python does not fit.
PACKAGES = {"chromium", "faketime", "postgresql", "prometheus", "python3", "redis-server", "git", "make"}
PYTHONS = {"python3-venv", "python3.11", "python3.11-venv", "python3.12", "python3.12-venv"}
UV = ({"cache", "clean"}, {"cache", "prune"}, {"python", "install", "3.12"})
COMMANDS = named_commands()


def of(start: str) -> list[Named]:
    return [one for one in COMMANDS if one.words[0] == start]


def named(start: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("command", of(start), ids=str)


def accepts(parser: argparse.ArgumentParser, words: Sequence[str]) -> str:
    """What the parser says against the words; "" when it takes them."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            parser.parse_args(["1" if re.fullmatch(r"\$?[A-Z]+", word) else word for word in words])
        except HelpAsked:  # of the command, which prints nothing by itself
            return ""
        except Failure as refused:
            return str(refused)
        except SystemExit as end:
            return said.getvalue() if end.code else ""
    return ""


def test_named_commands__found_in_every_kind_of_text() -> None:
    """The collector itself: a command of each kind that stands in the repository today."""
    places = {(one.place.partition(":")[0], " ".join(one.words[:2])) for one in COMMANDS}
    assert {
        ("README.md", "make demo"),
        ("docs/operations.md", "manage.py create_token"),
        ("docs/cli.md", "headgate rollout"),
        ("controlplane/api/problems.py", "manage.py create_token"),
        ("controlplane/cli/access.py", "manage.py create_token"),
        ("rollouts/adapters/clusters/engines/vllm.py", "python3 -m"),
        ("templates/rollouts/_rollout_list.html", "headgate rollout"),
        ("tests/conftest.py", "make setup"),
        ("tests/conftest.py", "apt-get install"),
        ("deploy/bootstrap/__main__.py", "apt-get install"),
        ("Makefile", "make openapi"),
    } <= places


@pytest.fixture(scope="module")
def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@named("make")
def test_make__target__exists(command: Named, targets: set[str]) -> None:
    assert command.words[1] in targets


@pytest.mark.parametrize("words", sorted({one.words[1:] for one in of("make") if one.exact}), ids=" ".join)
def test_make__dry_run__has_something_to_do(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@named("manage.py")
def test_manage__command__exists_and_takes_its_arguments(command: Named) -> None:
    name, *arguments = command.words[1:]
    assert name in get_commands(), f"there is no manage.py {name}"
    made = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    made.called_from_command_line = True
    assert accepts(made, arguments or ["--help"]) == ""


@named("headgate")
def test_headgate__call__is_one_that_it_takes(command: Named) -> None:
    words = list(command.words[1:])
    said = accepts(headgate(), words)
    if said and all(re.fullmatch(r"[a-z]+", word) for word in words):
        said = accepts(headgate(), [*words, "--help"])  # named without its arguments
    assert said == ""


@pytest.mark.parametrize("command", [*of("python3"), *of("python")], ids=str)
def test_python__module_or_file__exists(command: Named) -> None:
    option, what = command.words[1:3] if command.words[1] == "-m" else ("", command.words[1])
    if not option:
        assert (ROOT / what).is_file()
        return
    assert importlib.util.find_spec(what) is not None
    if what == "deploy.bootstrap":
        assert accepts(bootstrap(), [word.replace("cpu|gpu", "cpu") for word in command.words[3:]]) == ""


@named("apt-get")
def test_apt__packages__are_known(command: Named) -> None:
    assert command.words[1] == "install"
    assert set(command.words[2:]) <= PACKAGES | PYTHONS


def test_apt__packages_that_tests_need__are_what_a_landing_installs() -> None:
    installed = re.search(r"^packages=\((.*)\)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert installed
    assert set(installed[1].split()) == PACKAGES


@named("uv")
def test_uv__call__is_one_that_exists(command: Named) -> None:
    assert set(command.words[1:]) in UV


def messages() -> list[tuple[str, str]]:
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    found = [(f"{file.relative_to(ROOT)}:{line}", text) for file in files for line, text in texts(file)]
    return found + [(str(p.relative_to(ROOT)), p.read_text()) for p in sorted((ROOT / "docs").glob("*.md"))]


def test_places_in_the_pages__named_as_a_path__are_in_the_navigation() -> None:
    """Such as "Settings > API tokens", when there is no place called Settings."""
    places = {item.label for item in shell.nav_items()}
    wrong = [
        (where, path)
        for where, text in messages()
        for path in re.findall(r"\b([A-Z][a-z]+) > [A-Z]", text)
        if path not in places
    ]
    assert wrong == []


def test_api_paths__named_in_a_sentence__lead_somewhere() -> None:
    wrong = []
    for where, text in messages():
        for path in re.findall(r"(?<![\w/}])/api/v1(?:/[a-z-]+)+", text):
            try:
                resolve(path)
            except Resolver404:
                wrong.append((where, path))
    assert wrong == []
