"""axe finds nothing on any page: wide and narrow, light and dark, with dialogs open; and nothing is refused."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from controlplane.access.actors import HEADGATE
from controlplane.access.roles import Role
from controlplane.access.services import create_token
from registry.models import Version
from rollouts.domain.belongings import Belongings, LaunchFound, ModelServer, Orphan
from rollouts.models import Cluster, Endpoint, Workload
from rollouts.services.policies.versions import define_gate_policy
from tests import factories
from tests.e2e.browser.conftest import Visit, Visitor
from tests.factories import bandits

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.needs("chromium")]
DESK = {"width": 1440, "height": 900}
SIZES = (DESK, {"width": 390, "height": 844})


def changed_by_hand(endpoint: Endpoint) -> None:
    """Somebody changed its engine, and beside it lie an orphan and servers of somebody else, with long names."""
    image = f"registry.example/team/vllm@sha256:{'9' * 64}"
    words = f"Changed by hand: the image of engine is {image}, launched was {image} (by kubectl-edit)."
    Workload.objects.filter(variant__endpoint=endpoint).update(wanted=True, drift=words)
    at = factories.right_now().timestamp()
    name = "changed-v9-3f9a1c3f9a1c3f9a1c3f9a1c3f9a1c3f9a1c"
    waits = "It is taken away after 2027-01-15 08:01 UTC, unless the database knows it by then."
    orphan = Orphan(LaunchFound(name, "changed", f"ConfigMap {name}", at - 90_000, at - 3_600), waits)
    server = ModelServer("Deployment llama", image, "meta-llama/Llama-3.1-70B-Instruct", "Helm", 1, 2, at)
    unfit = ModelServer(
        "Deployment old", image, unfit="Deployment old has no pod that is ready. Wait until it answers."
    )
    found = Belongings(at, (orphan,), (server, unfit))
    Cluster.objects.filter(name="here").update(belongings=found.to_json())


@pytest.fixture
def paths() -> dict[str, str]:
    """A page of every kind, with rows in every list and a rollout in every look."""
    served = factories.endpoint()
    factories.minutes_of_traffic(served, minutes=20)
    model = served.model
    states = {
        "rolled-back": factories.rollout_rolled_back(of=served),
        "progressing": factories.rollout_progressing(of=served),
        "paused": factories.rollout_paused(of=factories.endpoint("chat", of=model)),
        "launching": factories.rollout_launching(of=factories.endpoint("extract", of=model)),
        "launch-failed": factories.rollout_launch_failed(of=factories.endpoint("summary", of=model)),
        "promoted": factories.rollout_promoted(of=factories.endpoint("answers", of=model)),
    }
    learning = bandits.rollout_bandit(of=factories.endpoint("search", of=model))
    states |= {
        "bandit": learning,
        "bandit burn-in": bandits.rollout_bandit(
            of=factories.endpoint("tagging", of=model), life=bandits.BURN_IN
        ),
        "bandit launching": bandits.bandit_launching(of=factories.endpoint("intent", of=model)),
        "bandit tied": bandits.bandit_tied(of=factories.endpoint("routing", of=model)),
    }
    factories.endpoint("idle", of=model)
    changed_by_hand(factories.endpoint("changed", of=model))
    over = states["rolled-back"]
    body = {**over.gate_policy.body, "alpha": 0.4}
    other = define_gate_policy(actor=HEADGATE, name="sooner", body=body, now=factories.right_now())
    Version.objects.filter(number=3).update(
        manifest_state="changed", manifest_problem="The file a.bin differs."
    )
    # The newest one, whose files the model's page shows.
    Version.objects.filter(number=4).update(
        file_classes=[
            {
                "path": "config.json",
                "kind": "configuration",
                "why": "",
                "finding": "asks for code of its own",
            },
            {"path": "model.safetensors", "kind": "pickle", "why": "is a pickle", "finding": ""},
        ]
    )
    return {name: f"/rollouts/{rollout.pk}" for name, rollout in states.items()} | {
        "overview": "/",
        "endpoints": "/endpoints",
        "endpoint": "/endpoints/triage",
        "events of an endpoint": "/endpoints/triage/events",
        "events of a rollout": f"/rollouts/{over.pk}/events",
        "rollouts": "/rollouts",
        "new rollout": "/rollouts/new?endpoint=idle",
        "models": "/models",
        "model": "/models/triage",
        "golden sets": "/golden-sets",
        "golden set": "/golden-sets/tickets",
        "policies": "/policies",
        "policy": "/policies/triage-default",
        "policy form": "/policies/triage-default/edit",
        "policy yaml": "/policies/triage-default/edit?view=yaml",
        "new policy": "/policies/new?copy=triage-default",
        "replay": f"/rollouts/{over.pk}/replay",
        "replay under another policy": f"/rollouts/{over.pk}/replay?policy={other}",
        "policy on past rollouts": f"/policies/{other.name}/{other.version}/try",
        "cluster": "/clusters/here",
        "adopt": "/clusters/here/adopt/llama",
        "endpoint changed by hand": "/endpoints/changed",
        "not found": "/nothing",
        "account": "/account",
        "sign out everywhere": "/account/sign-out-everywhere",
        "confirm": f"/rollouts/{states['paused'].pk}/confirm/promote",
        "choose an arm": f"/rollouts/{learning.pk}/confirm/choose",
        "promote an arm": f"/rollouts/{learning.pk}/confirm/promote?arm=candidate",
    }


# What must be scrolled sideways, with by how many pixels.
CUT_TABLES = """() => [...document.querySelectorAll('.scroll')]
  .filter(box => box.scrollWidth > box.clientWidth)
  .map(box => `${box.getAttribute('aria-label')}: ${box.scrollWidth - box.clientWidth}`)"""


def until_complete(visitor: Visitor) -> None:
    """Returns when every chart is drawn or known to be empty and all that is fetched is there, the font too."""
    visitor.page.wait_for_function(
        """() => document.fonts.ready.then(() =>
             [...document.querySelectorAll('[data-chart]')]
               .every(chart => chart.matches('.empty-chart') || chart.querySelector('canvas'))
             && !document.querySelector('#main .htmx-request, #replay-result [hx-trigger]'))"""
    )


def violations(visitor: Visitor) -> list[str]:
    found = Axe().run(visitor.page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['target']}" for one in found]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size["width"]))
def test_every_page__axe__finds_nothing(
    visit: Visit, paths: dict[str, str], size: dict[str, int], theme: str
) -> None:
    visitor = visit(viewport=size, color_scheme=theme)
    problems = {}
    for name, path in paths.items():
        visitor.open(path)
        until_complete(visitor)
        if found := violations(visitor):
            problems[name] = found
        wide = visitor.page.evaluate("document.documentElement.scrollWidth")
        if wide > size["width"]:
            problems[f"{name} is wider than the screen"] = [str(wide)]
        if size == DESK and (cut := visitor.page.evaluate(CUT_TABLES)):
            problems[f"{name} has a table wider than its card"] = cut
    assert problems == {}
    # The browser itself notes the one page that does not exist; nothing else may be noted.
    assert [text for text in visitor.complaints if "404 (Not Found)" not in text] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size["width"]))
def test_people__axe__finds_nothing(visit: Visit, size: dict[str, int], theme: str) -> None:
    visitor = visit(Role.ADMINISTRATOR, viewport=size, color_scheme=theme)
    somebody = factories.person(username="mira")
    create_token(user=somebody, name="ci", scopes=["read"], expires_at=None, now=factories.right_now())
    for path in ("/people", "/people/mira/end-access"):
        visitor.open(path)
        assert violations(visitor) == [], path
        wide = visitor.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size["width"], path
    visitor.open("/people")
    visitor.page.click("a:has-text('access of mira')")
    visitor.page.wait_for_selector("#dialog[open]")
    assert violations(visitor) == []
    visitor.page.click("#dialog button:has-text('End access')")
    visitor.page.wait_for_selector("text=What you chose of mira is ended.")
    assert visitor.complaints == []


def test_account__mistake_and_ended_token__finds_nothing(visit: Visit) -> None:
    visitor = visit()
    somebody = factories.person(Role.RELEASE_MANAGER)
    create_token(user=somebody, name="ci", scopes=["read"], expires_at=None, now=factories.right_now())
    visitor.open("/account")
    visitor.page.fill("[name=current]", "wrong")
    visitor.page.fill("[name=new]", "a staple for the horse")
    visitor.page.fill("[name=again]", "a staple for the horse")
    visitor.page.click("button:has-text('Change password')")
    visitor.page.wait_for_selector("text=That is not the password you have now.")
    assert violations(visitor) == []
    visitor.page.click("a:has-text('the token ci')")
    visitor.page.wait_for_selector("#dialog[open]")
    assert violations(visitor) == []
    visitor.page.click("#dialog button:has-text('End the token')")
    visitor.page.wait_for_selector("text=The token is ended.")
    assert violations(visitor) == []


@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size["width"]))
def test_adopt__with_a_field_that_is_wrong__finds_nothing(
    visit: Visit, paths: dict[str, str], size: dict[str, int]
) -> None:
    visitor = visit(viewport=size)
    visitor.open(paths["adopt"])
    visitor.page.click("button:has-text('Adopt llama')")
    visitor.page.wait_for_selector("#version-problem")
    assert violations(visitor) == []


def test_dialogs__axe__finds_nothing(visit: Visit, paths: dict[str, str]) -> None:
    visitor = visit()
    visitor.open(paths["paused"])
    visitor.page.click("a:has-text('Promote now')")
    visitor.page.wait_for_selector("#dialog[open]")
    assert violations(visitor) == []
    visitor.page.keyboard.press("Escape")
    visitor.page.keyboard.press("?")
    assert violations(visitor) == []
    visitor.page.keyboard.press("Escape")
    visitor.page.keyboard.press("/")
    visitor.page.keyboard.type("tri")
    visitor.page.wait_for_selector("#hits a")
    assert violations(visitor) == []


def test_sign_in__axe__finds_nothing(visit: Visit) -> None:
    visitor = visit()
    visitor.page.context.clear_cookies()
    visitor.open("/sign-in")
    assert violations(visitor) == []


def test_rollout_page__loading__moves_nothing_about(visit: Visit, paths: dict[str, str]) -> None:
    visitor = visit()
    visitor.open(paths["progressing"])
    until_complete(visitor)
    shift = visitor.page.evaluate(
        """() => new Promise(done => {
             let sum = 0;
             new PerformanceObserver(list => list.getEntries().forEach(e => { if (!e.hadRecentInput) sum += e.value; }))
               .observe({ type: 'layout-shift', buffered: true });
             setTimeout(() => done(sum), 500);
           })"""
    )
    assert shift < 0.02
