"""Tells the story of the demo on a stage: from nothing to the table, whatever the endpoint's cluster is.

Makes six versions of a tiny Llama, registers them in MLflow, serves v1, lets users send traffic, and rolls out v2
(better), v3 (worse answers), v4 (slow) and v6 (its chat template refuses the system messages that every second user
sends). Headgate promotes the first and rolls the others back by itself. Then a bandit finds the best of v2, v5 and v1
by what users say of the answers, and promotes it. At the end every rollout is decided once more from its recorded
evidence. While one rollout is judged, the engine of the next one loads.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from controlplane.cli.client import Client, Failure
from controlplane.cli.replay import replay_report
from controlplane.config.environment import ENVIRONMENT, ROOT
from deploy.demo.show import Progress, show_table
from deploy.stack.runner import stop_on_signals
from rollouts.adapters.clusters.launcher import STACK_MARK

FOLDER = ENVIRONMENT.run_dir / "demo"
MODELS = FOLDER / "models"
WEB = f"http://127.0.0.1:{ENVIRONMENT.web_port}"
SERVING_PATIENCE_SECONDS = 600.0
ROLLOUT_PATIENCE_SECONDS = 1_500.0
SETTLED = {"succeeded", "rolled-back", "cancelled", "failed", "superseded"}


@dataclass(frozen=True)
class Stage:
    """Where the endpoint of the story lives, as the story needs to know it.

    gateway   where users send their requests
    host      the name that they ask for; empty: the endpoint is a path at the gateway
    prepare   further words of the command line of `deploy.demo.prepare`
    address   of the endpoint, for people
    logs      where the engines' logs are, for people
    """

    gateway: str
    host: str = ""
    prepare: tuple[str, ...] = ()
    address: str = ""
    logs: str = "var/engines"


# Makes the stage before anything else starts, and takes it away when everything has stopped.
OpenStage = Callable[[Progress], AbstractContextManager[Stage]]


class DemoFailed(Exception):
    """The story could not go on; the message says where to look."""


@dataclass(frozen=True)
class Told:
    """One rollout of the story, as it ended. `lost` is what users lost while it ran and `refused` what versions refused
    them; `number` the version that the story expects to come out ahead or to be sent back; `why` the sentence of the
    decision; `replayed` what came of deciding it all again from the recorded evidence."""

    rollout: dict[str, Any]
    expected: str
    number: int
    why: str
    lost: int
    refused: int
    sent: int
    replayed: str = ""


def run_step(progress: Progress, title: str, command: list[str]) -> None:
    """Runs a program, its output shown as it comes. Raises DemoFailed when it fails."""
    progress.begin(title)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        progress.line(line.rstrip())
    if process.wait() != 0:
        raise DemoFailed(f"{title}: failed with exit code {process.returncode}; the lines above say why.")
    progress.end()


def start_traffic(story: dict[str, Any], stage: Stage) -> subprocess.Popen[bytes]:
    """The users, as a process of their own. By its mark `make down` finds it after a demo that was killed."""
    log = (ENVIRONMENT.run_dir / "log" / "traffic.log").open("ab")
    return subprocess.Popen(
        [
            sys.executable, "-m", "deploy.demo.traffic",
            "--gateway", stage.gateway, "--host", stage.host, "--api", WEB, "--endpoint", story["endpoint"],
            "--token-file", str(FOLDER / "token.json"), "--tickets", str(MODELS / "traffic.jsonl"),
            "--status", str(FOLDER / "traffic.json"), "--per-second", str(story["requests_per_second"]),
        ],
        cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        env={**os.environ, STACK_MARK: str(ENVIRONMENT.run_dir)},
    )  # fmt: skip


def traffic_now() -> dict[str, Any]:
    """What users saw so far."""
    path = FOLDER / "traffic.json"
    if path.exists():
        seen: dict[str, Any] = json.loads(path.read_text())
        return seen
    return {"sent": 0, "lost": 0, "answered": {}, "right": {}, "refused": {}}


def wait_until_serving(client: Client, progress: Progress, endpoint: str, *, logs: str) -> None:
    """Until the endpoint's first variant has all traffic, as the router itself reports it."""
    progress.begin("Launching the first version")
    ends = time.monotonic() + SERVING_PATIENCE_SECONDS
    while time.monotonic() < ends:
        state = client.get(f"/endpoints/{endpoint}")
        stable = state["stable"]["name"]
        variants = client.get(f"/endpoints/{endpoint}/variants")["items"]
        workload = next(variant["workload"] for variant in variants if variant["name"] == stable)
        if state["observed_shares"].get(stable) == 10_000 and workload["phase"] == "ready":
            progress.end()
            return
        if workload["phase"] == "failed":
            raise DemoFailed(f"{stable} failed: {workload['message']}")
        progress.wait(f"{stable} is {workload['phase']}: {workload['message']}")
        time.sleep(1)
    raise DemoFailed(f"The first version did not become ready in time; see {logs}.")


def tell_rollout(
    client: Client,
    progress: Progress,
    story: dict[str, Any],
    chapter: dict[str, Any],
    numbers: list[int],
    following: int | None,
) -> Told:
    """Starts a rollout as a pipeline would, and waits for what Headgate decides. `following` is the version that the
    story rolls out after it: it is launched as soon as this one has traffic."""
    before = traffic_now()
    plan = chapter.get("plan", story["plan"])
    names = " and ".join(chapter["versions"])
    progress.begin(f"Rolling out {names}" + (" by a bandit" if plan["strategy"] == "bandit" else ""))
    started = client.post(
        "/rollouts",
        {"endpoint": story["endpoint"], "versions": numbers, "plan": plan, "note": chapter["note"]},
    )
    progress.line(f"rollout #{started['id']}: {WEB}/rollouts/{started['id']}")
    ends = time.monotonic() + ROLLOUT_PATIENCE_SECONDS
    state = started
    while time.monotonic() < ends:
        try:
            state = client.get(f"/rollouts/{started['id']}", patient=False)
        except Failure as failure:
            progress.wait(f"the web process does not answer ({failure.message}); trying again")
            time.sleep(1)
            continue
        if state["phase"] in SETTLED:
            break
        if following is not None and state["phase"] == "progressing":
            launch_ahead(progress, story["endpoint"], following)
            following = None
        progress.wait(f"{state['phase']}: {state['reason']}")
        time.sleep(1)
    else:
        raise DemoFailed(f"Rollout #{started['id']} is still {state['phase']}: {state['reason']}")
    why = state["cause_sentence"] or why_promoted(client, state)
    progress.line(f"{state['phase']}: {why}")
    progress.end()
    after = traffic_now()
    lost, sent = after["lost"] - before["lost"], after["sent"] - before["sent"]
    refused = sum(after["refused"].values()) - sum(before["refused"].values())
    return Told(state, chapter["expect"], numbers[0], why, lost, refused, sent)


def launch_ahead(progress: Progress, endpoint: str, number: int) -> None:
    """Lets the next engine load now. Where that fails its own rollout launches it, and says what is wrong."""
    command = [sys.executable, "-m", "deploy.demo.launch_ahead"]
    done = subprocess.run(
        [*command, "--endpoint", endpoint, "--version", str(number)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        progress.line(f"version {number}, the next one, loads meanwhile")
    else:
        progress.line(f"version {number} was not launched ahead: {done.stderr.strip().splitlines()[-1:]}")


def why_promoted(client: Client, state: dict[str, Any]) -> str:
    """The sentence that the promotion was decided on, from the rollout's history."""
    history = client.get(f"/rollouts/{state['id']}/history")["items"]
    return next((str(event["detail"]) for event in history if event["kind"] == "promote"), state["reason"])


def replay_all(client: Client, progress: Progress, told: list[Told]) -> list[Told]:
    """Decides every rollout once more, from its evidence alone."""
    progress.begin("Deciding every rollout again from its recorded evidence")
    replayed = []
    for outcome in told:
        number = outcome.rollout["id"]
        report = replay_report(client, number, progress=progress.wait)
        progress.line(f"rollout #{number}: {report['sentence']}")
        replayed.append(replace(outcome, replayed=report["sentence"]))
    progress.end()
    return replayed


def wait_out_the_watch(client: Client, progress: Progress, rollout_id: int) -> None:
    """The old variant stays warm until the rollback window is over; the next rollout would end it early."""
    progress.begin("Keeping the old version warm for the rollback window")
    while (state := client.get(f"/rollouts/{rollout_id}"))["watching"]:
        progress.wait(state["next_step"])
        time.sleep(1)
    progress.end()


def tell_story(story: dict[str, Any], progress: Progress) -> list[Told]:
    """Everything after installation, up to the last decision."""
    registered = json.loads((FOLDER / "registered.json").read_text())
    client = Client(url=WEB, token=json.loads((FOLDER / "token.json").read_text())["token"])
    told: list[Told] = []
    chapters = [
        (chapter, [int(registered["versions"][name]) for name in chapter["versions"]])
        for chapter in story["rollouts"]
    ]
    first_of_next = [numbers[0] for _, numbers in chapters[1:]]
    for (chapter, numbers), following in zip_longest(chapters, first_of_next):
        outcome = tell_rollout(client, progress, story, chapter, numbers, following)
        told.append(outcome)
        if outcome.rollout["phase"] == "succeeded":
            wait_out_the_watch(client, progress, outcome.rollout["id"])
    return replay_all(client, progress, told)


def prepare(story: dict[str, Any], progress: Progress, stage: Stage) -> None:
    """Models, stack, registration, people and the endpoint. Everything that exists already is left alone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    python = str(ENVIRONMENT.engine_python)
    # First, because it says at once when a port is taken or memory is short.
    run_step(
        progress, "Starting MLflow, Envoy, web, worker and beat", [sys.executable, "-m", "deploy.stack", "up"]
    )
    run_step(
        progress, "Making six versions of a tiny Llama that routes tickets",
        [python, "-m", "deploy.demo.models.train", "--out", str(MODELS)],
    )  # fmt: skip
    run_step(
        progress, "Registering the versions in MLflow",
        [
            sys.executable, "-m", "deploy.demo.models.register", "--models", str(MODELS),
            "--mlflow", ENVIRONMENT.mlflow_url, "--out", str(FOLDER / "registered.json"),
        ],
    )  # fmt: skip
    (FOLDER / "story.json").write_text(json.dumps(story))
    run_step(
        progress, "People, golden set, gate policy and endpoint",
        [
            sys.executable, "-m", "deploy.demo.prepare", "--folder", str(FOLDER),
            "--registered", str(FOLDER / "registered.json"), "--story", str(FOLDER / "story.json"),
            "--golden", str(MODELS / "golden.jsonl"), *stage.prepare,
        ],
    )  # fmt: skip


def show_sign_ins(progress: Progress, stage: Stage) -> None:
    """Where to look and how to get in. These people exist on this machine only."""
    from deploy.demo.prepare import PEOPLE

    passwords = json.loads((FOLDER / "sign-ins.json").read_text())
    progress.say(f"\nHeadgate        {WEB}")
    progress.say(f"Endpoint        {stage.address} (OpenAI-compatible)")
    progress.say(f"MLflow          {ENVIRONMENT.mlflow_url}\n")
    for name, password in passwords.items():
        progress.say(f"  {name:<8} {password:<16} {PEOPLE[name].replace('_', ' ')}")


def stop_all(traffic: subprocess.Popen[bytes] | None) -> None:
    """Leaves nothing running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # stopping is not interrupted again
    if traffic is not None and traffic.poll() is None:
        traffic.terminate()
        try:
            traffic.wait(timeout=15)
        except subprocess.TimeoutExpired:
            traffic.kill()
    subprocess.run([sys.executable, "-m", "deploy.stack", "down"], cwd=ROOT, check=False)


def arguments_of(command: str, about: str) -> argparse.Namespace:
    """`once` and `result`, from the command line."""
    parser = argparse.ArgumentParser(
        prog=command, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--once", action="store_true", help="end after the table and stop everything")
    parser.add_argument("--result", type=Path, help="write the table as JSON too")
    return parser.parse_args()


def story_as_written() -> dict[str, Any]:
    """What is told, with its gates and plans, as plain data."""
    story: dict[str, Any] = json.loads((Path(__file__).parent / "story.json").read_text())
    return story


def tell(open_stage: OpenStage, story: dict[str, Any], *, once: bool, result: Path | None) -> int:
    """The whole demo; its exit status. Goes on until Ctrl-C after the table unless `once`. Leaves nothing running."""
    progress = Progress(sys.stdout)
    begun = time.monotonic()
    stop_on_signals()
    try:
        with open_stage(progress) as stage:
            return _tell_on(stage, progress, story, begun=begun, once=once, result=result)
    except DemoFailed as error:
        progress.fail(str(error))
        return 1
    except Failure as failure:
        progress.fail(f"{failure.message} {failure.fix}".strip())
        return 1
    except KeyboardInterrupt:
        progress.say("\nStopped.")
        return 130


def _tell_on(
    stage: Stage,
    progress: Progress,
    story: dict[str, Any],
    *,
    begun: float,
    once: bool,
    result: Path | None,
) -> int:
    traffic: subprocess.Popen[bytes] | None = None
    try:
        prepare(story, progress, stage)
        client = Client(url=WEB, token=json.loads((FOLDER / "token.json").read_text())["token"])
        wait_until_serving(client, progress, story["endpoint"], logs=stage.logs)
        (FOLDER / "traffic.json").unlink(missing_ok=True)
        traffic = start_traffic(story, stage)
        progress.say(f"Users send up to {story['requests_per_second']} requests a second; watch it at {WEB}")
        told = tell_story(story, progress)
        rows = show_table(progress, told, traffic_now(), seconds=time.monotonic() - begun)
        if result:
            result.write_text(json.dumps(rows, indent=2))
        as_expected = all(row["as_expected"] for row in rows["rollouts"])
        if once:
            return 0 if as_expected and rows["lost"] == 0 else 1
        show_sign_ins(progress, stage)
        progress.say("\nTraffic goes on: start a rollout by hand. Ctrl-C stops everything.")
        while traffic.poll() is None:
            time.sleep(1)
        return 1
    except BaseException:
        progress.say("\nStopping everything ...")
        raise
    finally:
        stop_all(traffic)
