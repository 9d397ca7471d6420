"""A real browser against the real web process, on a database file that the tests fill with factories."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect
from pytest_django.plugin import DjangoDbBlocker

from controlplane.access.roles import Role
from tests import factories

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 40.0
OPTIONS = ("--lifespan", "off", "--log-level", "warning", "--timeout-graceful-shutdown", "1")
expect.set_options(timeout=20_000)  # how long a page may take on a busy machine; no test asserts a time
# A busy browser, for a page's own scripts: what they put off until there is a quiet moment comes late.
NO_QUIET_MOMENT = """
  const usual = window.setTimeout;
  window.setTimeout = (what, after, ...more) => usual(what, after > 1 ? after : 1500, ...more);
"""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They run in processes without other tests: Playwright's event loop runs until the last test, and beside it
    whoever needs a loop of its own, or the database, is refused."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("browser") is None:
            raise pytest.UsageError(f"{item.nodeid} lacks the mark browser.")


@dataclass(frozen=True)
class Site:
    """A running web process and the file of its database."""

    url: str
    database: Path


@dataclass
class Visitor:
    """Somebody's browser tab. `complaints` are console errors, script errors and refused content."""

    page: Page
    site: Site
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.site.url + path)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The system's Chromium where there is one, else the one that Playwright brought."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    chosen = {"executable_path": program} if program else {}
    return {**browser_type_launch_args, **chosen, "args": [*FLAGS, "--disable-sync"]}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The web process as it runs in the demo: migrated database file, hashed static files, uvicorn."""
    folder = tmp_path_factory.mktemp("site")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.e2e.browser.site_settings",
        "HEADGATE_RUN_DIR": str(folder),
        "HEADGATE_LOG_LEVEL": "WARNING",
        "HEADGATE_SECRET_KEY": settings.SECRET_KEY,  # so that a session made here is one there
    }
    for command in (["migrate", "-v0"], ["collectstatic", "--noinput", "-v0"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True)
    log = (folder / "web.log").open("w")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "uvicorn",
            "controlplane.config.asgi:application",
            "--port",
            str(port),
            *OPTIONS,
        ],
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=log,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_alive(url, process, folder / "web.log")
        yield Site(url, folder / "headgate.sqlite3")
    finally:
        process.terminate()
        process.wait(timeout=10)
        log.close()


def _wait_until_alive(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url + "/healthz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"The web process did not come up:\n{log.read_text()}")


@pytest.fixture(autouse=True)
def database(
    site: Site, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The test's own Django looks at the file that the web process serves; the file is empty before each test."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright keeps a loop running in this thread.
    with django_db_blocker.unblock():
        usual = connections["default"]
        served = usual.copy()
        served.settings_dict = {
            **usual.settings_dict,
            "NAME": str(site.database),
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
        connections["default"] = served
        try:
            call_command("flush", interactive=False, verbosity=0)
            yield
        finally:
            served.close()
            connections["default"] = usual


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(site: Site, browser: Browser) -> Iterator[Visit]:
    """`visit(role)` signs somebody in and gives their tab; keyword arguments go to the browser context."""
    contexts: list[BrowserContext] = []

    def sign_in(role: Role = Role.RELEASE_MANAGER, **options: Any) -> Visitor:
        somebody = factories.person(role)
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        visitor = Visitor(context.new_page(), site)
        visitor.page.on("console", lambda message: _note(visitor, message))
        visitor.page.on("pageerror", lambda error: visitor.complaints.append(f"script: {error}"))
        session = Client()
        session.force_login(somebody)
        cookie = session.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": site.url}])
        visitor.open("/")
        return visitor

    yield sign_in
    for context in contexts:
        # A context that is closed in the middle of a navigation may never be closed.
        for page in context.pages:
            page.wait_for_load_state()
        context.close()


def _note(visitor: Visitor, message: ConsoleMessage) -> None:
    if message.type in ("error", "warning"):
        visitor.complaints.append(f"{message.type}: {message.text}")
