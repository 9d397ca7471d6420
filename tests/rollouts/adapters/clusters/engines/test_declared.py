"""What the operator declares in engines.json: engines of their own, and more than we allow of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput, Unavailable
from rollouts.adapters.clusters.engines import ENGINES, engines_in_force, load_engines
from rollouts.adapters.clusters.engines.template import OF_THE_MACHINE
from rollouts.ports import OPENAI_API, EngineApi
from tests.rollouts.adapters.clusters.machine_room import ROOT

ARGV = ["/bin/mine", "{port}", "{arguments}"]
THREADS = {"kind": "integer", "least": 1, "most": 8, "help": "How many threads."}


def declare(folder: Path, **engines: Any) -> None:
    (folder / "engines.json").write_text(json.dumps(engines))


def test_load_engines__no_file__is_what_we_bring(tmp_path: Path) -> None:
    assert load_engines(tmp_path) == ENGINES


def test_load_engines__own_engine__allows_exactly_what_it_declares(tmp_path: Path) -> None:
    declare(tmp_path, mine={"argv": ARGV, "arguments": {"threads": THREADS}})
    options = load_engines(tmp_path)["mine"].options
    assert dict(options.choose({"threads": 4}, {}).arguments) == {"threads": 4}
    assert (options.variables, options.widened) == ((), ())
    for arguments in ({"threads": 9}, {"max-model-len": 256}):
        with pytest.raises(InvalidInput):
            options.choose(arguments, {})


def test_load_engines__every_kind_of_option__is_read(tmp_path: Path) -> None:
    declared = {
        "a": THREADS,
        "b": {"kind": "number", "least": 0, "most": 0.5, "help": "B."},
        "c": {"kind": "size", "help": "C."},
        "d": {"kind": "word", "choices": ["x", "y"], "help": "D."},
        "e": {"kind": "text", "pattern": "[a-z]+", "help": "E."},
        "f": {"kind": "flag", "help": "F."},
        "g": {"kind": "file", "choices": [".jinja"], "help": "G."},
        "h": {"kind": "object", "fields": {"i": THREADS}, "help": "H."},
    }
    declare(tmp_path, mine={"argv": ARGV, "arguments": declared})
    values = {"a": 1, "b": 0.5, "c": "1K", "d": "x", "e": "ok", "f": True, "g": "t.jinja", "h": {"i": 8}}
    chosen = load_engines(tmp_path)["mine"].options.choose(values, {}, files={"t.jinja"})
    assert dict(chosen.arguments) == {**values, "c": 1024}


def test_load_engines__entry_for_vllm_without_argv__widens_it_and_says_by_what(tmp_path: Path) -> None:
    overrides = {"kind": "text", "pattern": "[a-z]+", "help": "Which scheduler."}
    declare(
        tmp_path,
        vllm={
            "arguments": {"scheduler-cls": overrides},
            "variables": {"HF_HOME": {"kind": "text", "pattern": "/cache", "help": "Where files are kept."}},
            "environment": {"HTTPS_PROXY": "http://proxy.example:1"},
            "passed_on": ["NCCL_SOCKET_IFNAME"],
        },
    )
    found = load_engines(tmp_path)["vllm"]
    assert found.argv == ENGINES["vllm"].argv
    assert found.options.widened == (
        "argument scheduler-cls",
        "variable HF_HOME",
        "variable HTTPS_PROXY, always set",
        "variable NCCL_SOCKET_IFNAME, passed on from the stack",
    )
    chosen = found.options.choose({"scheduler-cls": "mine", "max-num-seqs": 4}, {"HF_HOME": "/cache"})
    assert dict(chosen.arguments) == {"max-num-seqs": 4, "scheduler-cls": "mine"}
    assert found.environment["HTTPS_PROXY"] == "http://proxy.example:1"
    assert found.passed_on == (*OF_THE_MACHINE, "NCCL_SOCKET_IFNAME")


def test_load_engines__entry_for_vllm_with_argv__takes_its_place(tmp_path: Path) -> None:
    declare(tmp_path, vllm={"argv": ARGV})
    found = load_engines(tmp_path)["vllm"]
    assert (found.argv, found.arguments, found.widened) == (tuple(ARGV), (), ())


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"arguments": {"port": THREADS}}, "'port' .* is set by the cluster itself"),
        ({"arguments": {"served-model": THREADS}}, "is set by the cluster itself"),
        ({"arguments": {"uds": THREADS}}, "is set by the cluster itself"),
        ({"arguments": {"--x": THREADS}}, "'--x' .* is no argument's name"),
        ({"arguments": {"x": {"kind": "integer"}}}, "needs help"),
        ({"arguments": {"x": {"kind": "magic", "help": "X."}}}, "cannot be of the kind 'magic'"),
        ({"arguments": {"x": {**THREADS, "pattern": "a"}}}, "may have only"),
        ({"arguments": {"x": {**THREADS, "least": 9}}}, "least and most"),
        ({"arguments": {"x": {"kind": "word", "help": "X."}}}, "needs choices"),
        ({"arguments": {"x": {"kind": "text", "help": "X."}}}, "needs a pattern"),
        ({"arguments": {"x": {"kind": "text", "pattern": "(", "help": "X."}}}, "no regular expression"),
        ({"arguments": {"x": {"kind": "object", "help": "X."}}}, "needs fields"),
        ({"arguments": []}, "must be an object of options"),
        ({"variables": {"A-B": THREADS}}, "'A-B' .* is no variable's name"),
        ({"variables": {"X": {"kind": "file", "help": "X."}}}, "cannot be of the kind 'file'"),
        ({"variables": {"HEADGATE_ENGINE": THREADS}}, "a setting of Headgate's own"),
        ({"environment": {"HEADGATE_SECRET_KEY": "x"}}, "a setting of Headgate's own"),
        ({"environment": {"X": {}}}, "an object of texts"),
        ({"passed_on": "PATH"}, "a list of names"),
        ({"passed_on": [["X"]]}, "is no variable's name"),
        ({"passed_on": ["HEADGATE_SECRET_KEY"]}, "a setting of Headgate's own"),
        ({"install": "x"}, "may have only arguments, environment, passed_on, variables"),
    ],
)
def test_load_engines__impossible_widening__is_refused_by_name(
    tmp_path: Path, entry: dict[str, Any], says: str
) -> None:
    declare(tmp_path, vllm=entry)
    with pytest.raises(Unavailable, match=says) as caught:
        load_engines(tmp_path)
    assert str(tmp_path / "engines.json") in caught.value.fix


def test_load_engines__arguments_without_their_place__is_refused(tmp_path: Path) -> None:
    declare(tmp_path, mine={"argv": ["/bin/mine", "{port}"], "arguments": {"threads": THREADS}})
    with pytest.raises(Unavailable, match=r"nowhere says \{arguments\}"):
        load_engines(tmp_path)


def test_load_engines__example_of_the_operations_page__can_be_read(tmp_path: Path) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    example = page[page.index("```json\n") + 8 :]
    (tmp_path / "engines.json").write_text(example[: example.index("```")])
    engines = load_engines(tmp_path)
    assert [option.name for option in engines["my-server"].arguments] == ["threads"]
    assert engines["vllm"].widened[0] == "argument max-log-len"


def test_engines_in_force__file_broken_meanwhile__is_the_table_read_last(tmp_path: Path) -> None:
    declare(tmp_path, mine={"argv": ARGV})
    before = engines_in_force(tmp_path)
    (tmp_path / "engines.json").write_text("{")
    assert engines_in_force(tmp_path) == before
    assert "mine" in before


def test_load_engines__without_calls__has_those_of_openai(tmp_path: Path) -> None:
    (tmp_path / "engines.json").write_text(json.dumps({"mine": {"argv": ["/bin/mine", "{port}"]}}))
    assert load_engines(tmp_path)["mine"].api == OPENAI_API


def test_load_engines__with_calls__has_exactly_these(tmp_path: Path) -> None:
    calls = {"inference": ["/v1/chat/completions", "/generate"], "other": []}
    (tmp_path / "engines.json").write_text(json.dumps({"mine": {"argv": ["/bin/mine", "{port}"], **calls}}))
    assert load_engines(tmp_path)["mine"].api == EngineApi(("/v1/chat/completions", "/generate"), ())


def test_load_engines__a_path_of_the_defaults_that_is_inference_here__is_inference_only(
    tmp_path: Path,
) -> None:
    calls = {"inference": ["/tokenize"]}
    (tmp_path / "engines.json").write_text(json.dumps({"mine": {"argv": ["/bin/mine", "{port}"], **calls}}))
    api = load_engines(tmp_path)["mine"].api
    assert api.inference == ("/tokenize",)
    assert "/tokenize" not in api.other


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ({"inference": "/v1/x"}, "list of paths"),
        ({"inference": []}, "no inference path"),
        ({"inference": ["v1/x"]}, "'v1/x' in inference .* is no path"),
        ({"inference": ["/v1/x/"]}, "is no path"),
        ({"inference": ["/v1/(.*)"]}, "is no path"),
        ({"inference": ["/v1/../metrics"]}, "is no path"),
        ({"inference": ["/v1/x?y=1"]}, "is no path"),
        ({"other": [7]}, "7 in other"),
        ({"other": ["/v1/models"]}, "answered by the router itself"),
        ({"inference": ["/v1/x"], "other": ["/v1/x"]}, "both inference and other"),
    ],
)
def test_load_engines__impossible_calls__are_refused_by_name(
    tmp_path: Path, calls: dict[str, object], says: str
) -> None:
    (tmp_path / "engines.json").write_text(json.dumps({"mine": {"argv": ["/bin/mine", "{port}"], **calls}}))
    with pytest.raises(Unavailable, match=f"engines.json.*{says}"):
        load_engines(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"x": {"argv": []}}', '{"x": {"argv": ["a"]}}', '{"x": {"argv": ["{port}"], "shell": 1}}'],
)
def test_load_engines__unreadable_declaration__is_refused_with_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "engines.json").write_text(text)
    with pytest.raises(Unavailable, match=r"engines\.json"):
        load_engines(tmp_path)
