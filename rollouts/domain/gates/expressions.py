"""PromQL that a policy holds: an expression with placeholders for the arm, checked before it is stored, filled in when
it is asked. It is not parsed here: what a Prometheus refuses, the dry run and the gate say in its own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates import checks

LONGEST_EXPRESSION = 2_000
PLACEHOLDERS: Mapping[str, str] = {
    "variant": "the arm's variant, as it is called here and as vLLM labels its metrics (model_name)",
    "pods": "a pattern of the names of the arm's pods, to be compared by =~",
    "namespace": "the namespace of the cluster's engines",
    "endpoint": "the endpoint, as it is called here",
}
OF_ONE_ARM = ("variant", "pods")  # without one of these an expression says the same of every arm
_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
# In both kinds of quotes PromQL reads \x27 as a quote; the other kind after a backslash it refuses.
_ESCAPES = str.maketrans(
    {"\\": r"\\", '"': r"\x22", "'": r"\x27", "`": r"\x60", "\n": r"\n", "\r": r"\r", "\0": r"\x00"}
)


def check_expression(value: object, *, field: str) -> str:
    """`value` as an expression that tells arms apart. Raises InvalidInput naming the field."""
    text = checks.text(value, field=field)
    if len(text) > LONGEST_EXPRESSION:
        raise InvalidInput(
            f"{field} has {len(text):,} characters, at most {LONGEST_EXPRESSION:,} are asked.",
            field=field,
            fix="Have Prometheus record it under a name of its own (a recording rule for each process).",
        )
    used = _PLACEHOLDER.findall(text)
    for name in used:
        if name not in PLACEHOLDERS:
            raise InvalidInput(
                f"{field} holds {{{{{name}}}}}, which is no placeholder.", field=field, fix=_KNOWN
            )
    if "{{" in _PLACEHOLDER.sub("", text):
        raise InvalidInput(f"{field} opens {{{{ and does not close it.", field=field, fix=_KNOWN)
    if not any(name in OF_ONE_ARM for name in used):
        raise InvalidInput(
            f"{field} says the same of every arm: it holds neither {{{{variant}}}} nor {{{{pods}}}}.",
            field=field,
            fix='Select the arm\'s own series, such as name_total{namespace="{{namespace}}",pod=~"{{pods}}"}.',
        )
    return text


def filled_in(expression: str, values: Mapping[str, str]) -> str:
    """The expression of one arm, its values escaped for PromQL's strings. `values` has every placeholder."""
    return _PLACEHOLDER.sub(lambda found: escaped(values[found[1]]), expression)


def escaped(value: str) -> str:
    """`value` as it stands between quotes of either kind in PromQL."""
    return value.translate(_ESCAPES)


_KNOWN = f"Use one of: {', '.join(f'{{{{{name}}}}}' for name in PLACEHOLDERS)}."
