"""What an option allows, and how a spec is held against a list of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.engine_options import EngineOptions, Option, OptionKind

LENGTH = Option("max-model-len", OptionKind.INTEGER, "Length.", 1, 4096)
SHARE = Option("share", OptionKind.NUMBER, "Share.", 0, 1)
BYTES = Option("cache", OptionKind.SIZE, "Memory.", 0, 8 * 2**30)
DTYPE = Option("dtype", OptionKind.WORD, "Type.", choices=("auto", "float16", "0"))
CORES = Option("cores", OptionKind.TEXT, "Cores.", pattern="[0-9]+(-[0-9]+)?")
EAGER = Option("enforce-eager", OptionKind.FLAG, "Eager.")
TEMPLATE = Option("chat-template", OptionKind.FILE, "Template.", choices=(".jinja",))
LIMITS = Option("limits", OptionKind.OBJECT, "Limits.", fields=(LENGTH, EAGER))
THREADS = Option("OMP_NUM_THREADS", OptionKind.INTEGER, "Threads.", 1, 64)
OPTIONS = EngineOptions(
    "vllm", (LENGTH, SHARE, BYTES, DTYPE, CORES, EAGER, TEMPLATE, LIMITS), (THREADS, DTYPE)
)
FILES = {"chat.jinja", "templates/chat.jinja", "config.json"}
BY_NAME = {option.name: option for option in OPTIONS.arguments}


@pytest.mark.parametrize(
    ("option", "value", "read"),
    [
        (LENGTH, 256, 256),
        (LENGTH, "256", 256),
        (SHARE, 0.25, 0.25),
        (SHARE, 1, 1),
        (SHARE, "2.5e-1", 0.25),
        (BYTES, 1024, 1024),
        (BYTES, "4K", 4096),
        (BYTES, "2GiB", 2**31),
        (DTYPE, "float16", "float16"),
        (DTYPE, 0, "0"),
        (CORES, "0-7", "0-7"),
        (CORES, 3, "3"),
        (EAGER, True, True),
        (EAGER, False, False),
        (TEMPLATE, "templates/chat.jinja", "templates/chat.jinja"),
        (LIMITS, {"enforce-eager": True, "max-model-len": "7"}, {"enforce-eager": True, "max-model-len": 7}),
    ],
)
def test_read__what_it_allows__has_one_form(option: Option, value: object, read: object) -> None:
    found = option.read(value, where="x", files=FILES)
    assert found == read
    assert type(found) is type(read)


REFUSED: dict[Option, tuple[Any, ...]] = {
    LENGTH: (0, 4097, 10**5000, -1, 256.0, True, None, "", "1k", "0x10", " 7", "９", [7]),
    SHARE: (1.5, -0.1, float("nan"), float("inf"), True, "1e999", "nan", "0.5 ", "1_0"),
    BYTES: (-1, 2**60, "4 K", "4KB", "1.5G", "9" * 5000, True),
    DTYPE: ("float32", "", "auto\n", "--trust-remote-code", True, 7, float("inf"), None),
    CORES: ("0-7\n", "a", "", "1-", "1" * 501, "--x", "\ud800", 1e300, []),
    EAGER: ("true", 1, 0, None, "--tool-parser-plugin=/models/chat/1/plugin.py"),
    TEMPLATE: (
        "/etc/passwd", "../chat.jinja", "a/../chat.jinja", "./chat.jinja", "", ".", "chat.jinja/", "a//chat.jinja",
        "config.json", "no.jinja", "x\0.jinja", 7,
    ),
    LIMITS: ({}, [], "{}", {"other": 1}, {"max-model-len": 0}, {"enforce-eager": {}}, {1: 2}),
}  # fmt: skip
ODD = [(option, value) for option, values in REFUSED.items() for value in values]


@pytest.mark.parametrize(("option", "value"), ODD, ids=range(len(ODD)))
def test_read__what_it_does_not_allow__is_refused_with_what_may_be_written(
    option: Option, value: object
) -> None:
    with pytest.raises(InvalidInput) as caught:
        option.read(value, where="arguments.here", files=FILES)
    assert caught.value.field.startswith("arguments.here")
    assert caught.value.fix.startswith("Write ")


def test_read__refused_value__is_not_repeated() -> None:
    with pytest.raises(InvalidInput) as caught:
        DTYPE.read("hf_swordfish", where="arguments.dtype")
    assert "swordfish" not in str(caught.value)


def test_read__part_of_an_object__is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        LIMITS.read({"max-model-len": 0}, where="arguments.limits")
    assert caught.value.field == "arguments.limits.max-model-len"


def test_read__files_not_known_yet__holds_a_file_to_its_form_only() -> None:
    assert TEMPLATE.read("later.jinja", where="x") == "later.jinja"
    with pytest.raises(InvalidInput):
        TEMPLATE.read("/etc/passwd", where="x")


def test_choose__names_with_underscores__are_the_same_arguments() -> None:
    chosen = OPTIONS.choose({"max_model_len": 7}, {"OMP_NUM_THREADS": "2"})
    assert dict(chosen.arguments) == {"max-model-len": 7}
    assert dict(chosen.variables) == {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize(
    ("arguments", "environment", "field", "says"),
    [
        ({"scheduler-cls": "x"}, {}, "serving.arguments.scheduler-cls", "'scheduler-cls' of vllm"),
        ({"max-model-lens": 7}, {}, "serving.arguments.max-model-lens", "Did you mean max-model-len?"),
        ({"max-model": 7}, {}, "serving.arguments.max-model", "argument"),
        ({"--max-model-len": 7}, {}, "serving.arguments.--max-model-len", "Did you mean max-model-len?"),
        ({"MAX-MODEL-LEN": 7}, {}, "serving.arguments.MAX-MODEL-LEN", "argument"),
        ({"max-model-len": 7, "max_model_len": 7}, {}, "serving.arguments.max_model_len", "named twice"),
        ({"limits.max-model-len": 7}, {}, "serving.arguments.limits.max-model-len", "argument"),
        ({"x" * 5000: 7}, {}, "serving.arguments", "xxx…"),
        ({"a\0b": 7}, {}, "serving.arguments", "argument"),
        ({"\ud800": 7}, {}, "serving.arguments", "argument"),
        ({}, {"BASH_ENV": "x"}, "serving.environment.BASH_ENV", "variable 'BASH_ENV'"),
        ({}, {"omp_num_threads": "2"}, "serving.environment.omp_num_threads", "variable"),
        ({}, {"OMP-NUM-THREADS": "2"}, "serving.environment.OMP-NUM-THREADS", "variable"),
        (
            {},
            {"OMP_NUM_THREADS": "two"},
            "serving.environment.OMP_NUM_THREADS",
            "a whole number from 1 to 64",
        ),
    ],
)
def test_choose__anything_else__is_refused_by_field(
    arguments: dict[str, Any], environment: dict[str, str], field: str, says: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        OPTIONS.choose(arguments, environment, prefix="serving.")
    assert caught.value.field == field
    assert says in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(value=JSON, option=st.sampled_from(OPTIONS.arguments))
def test_read__any_value__is_allowed_or_refused_and_reading_again_changes_nothing(
    value: object, option: Option
) -> None:
    try:
        once = option.read(value, where="x", files=FILES)
    except InvalidInput:
        return
    assert option.read(once, where="x", files=FILES) == once
