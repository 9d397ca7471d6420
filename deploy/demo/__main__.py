"""The main job on real parts, from nothing: `python -m deploy.demo` (what `make demo` runs after installing).

The story (telling.py) on this machine: vLLM as its processes, behind Envoy. Ends with a table; then everything goes on
until Ctrl-C, which leaves nothing running.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.config.environment import ENVIRONMENT, ROOT
from deploy.demo.show import Progress
from deploy.demo.telling import Stage, arguments_of, story_as_written, tell


@contextmanager
def this_machine(_: Progress) -> Iterator[Stage]:
    """The cluster `local`: there is nothing to make."""
    gateway = ENVIRONMENT.public_gateway_url
    yield Stage(gateway, address=f"{gateway}/tickets/v1")


if __name__ == "__main__":
    os.chdir(ROOT)
    os.umask(0o077)  # it writes passwords and a token
    given = arguments_of("make demo", __doc__)
    sys.exit(tell(this_machine, story_as_written(), once=given.once, result=given.result))
