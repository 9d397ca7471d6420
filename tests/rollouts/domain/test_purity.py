"""The domain stands on plain Python: a decision can be replayed anywhere."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import rollouts.domain

FORBIDDEN = ("django", "rest_framework", "celery", "httpx", "mlflow", "openai", "supervisor")


def test_importing_the_whole_domain__loads_no_framework() -> None:
    names = ["rollouts.ports"]
    names += [module.name for module in pkgutil.walk_packages(rollouts.domain.__path__, "rollouts.domain.")]
    assert "rollouts.domain.lifecycle.decide" in names
    assert "rollouts.domain.gates.family" in names
    program = (
        f"import sys, importlib\n[importlib.import_module(name) for name in {names!r}]\n"
        f"print(*sorted({{name.partition('.')[0] for name in sys.modules}} & set({FORBIDDEN!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == ""
