"""The main job on a whole Kubernetes: `python -m tests.kubernetes.demo` (what `make demo-kubernetes` runs).

The story of `make demo`, told on the cluster of the tests (docs/tests-on-kubernetes.md): pods run this machine's vLLM,
users come through Envoy Gateway, and a Prometheus reads what was counted. Needs root and the programs of the cluster
(`make kubernetes`). Ends with a table; then everything goes on until Ctrl-C, which leaves nothing running.
"""

from __future__ import annotations

import os
import sys

from controlplane.config.environment import ROOT
from deploy.demo.telling import arguments_of, story_as_written, tell
from tests.kubernetes.demo.stage import kubernetes_stage, story_on_kubernetes

if __name__ == "__main__":
    os.chdir(ROOT)
    os.umask(0o077)  # it writes passwords and tokens
    given = arguments_of("make demo-kubernetes", __doc__)
    story = story_on_kubernetes(story_as_written())
    sys.exit(tell(kubernetes_stage, story, once=given.once, result=given.result))
