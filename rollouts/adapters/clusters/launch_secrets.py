"""The secrets of launches on this machine: checked before one, handed on to its launcher, kept out of what is shown."""

from __future__ import annotations

import os
from dataclasses import replace

from controlplane.kernel.credentials import hide_in_lines
from controlplane.kernel.errors import Refused
from controlplane.sealing.keys import SETTING
from controlplane.sealing.known import known
from rollouts.adapters.clusters.engines import (
    EngineTemplate,
    credentials_around,
    engines_in_force,
    secrets_of,
)
from rollouts.adapters.clusters.folder import DAMAGED, EngineFolder
from rollouts.adapters.clusters.secrets import SecretStore, renewed_environment
from rollouts.ports import WorkloadSpec

LINES_BEFORE = 100  # a secret of several lines may begin before the lines that are asked for


class LaunchSecrets:
    """What the local cluster does about secrets; `store` opens them."""

    def __init__(self, folder: EngineFolder, store: SecretStore) -> None:
        self._folder = folder
        self.store = store

    def check(self, spec: WorkloadSpec, template: EngineTemplate) -> None:
        """Raises Refused with the code `no-secret` when one of them could not be given to the engine now."""
        self.store.open_all(secrets_of(template, spec))

    def hand_on(self, spec: WorkloadSpec) -> None:
        """Gives the launcher, which has no settings, the keys that it needs. Call it under the folder's lock."""
        if any(not isinstance(value, str) for value in spec.environment.values()):
            self._folder.keep_keys(self.store.keys())

    def log_lines(self, variant: str, lines: int) -> tuple[str, ...]:
        """The last lines of the engine's log without its secrets: an engine may print its environment."""
        read = self._folder.log_lines(variant, lines + LINES_BEFORE)
        return hide_in_lines(read, self.values(variant))[-lines:] if lines > 0 else ()

    def values(self, variant: str) -> tuple[str, ...]:
        """What must not be shown of this variant, as far as it can be read now. Never raises."""
        try:
            launch = self._folder.launch(variant)
            if launch is None:
                return known()
            template = engines_in_force(self._folder.run_dir).get(launch.spec.engine)
            if template is None:
                return self.store.values(launch.spec.environment)
            return (
                *credentials_around(template, os.environ),
                *self.store.values({**template.environment, **launch.spec.environment}),
            )
        except DAMAGED:
            return known()

    def renew(self) -> int:
        """See `Cluster.renew_secrets`."""
        renewed = 0
        problems = []
        with self._folder.locked():
            if self._folder.variants():
                # The keys first: an engine that starts meanwhile can open its secrets under either key.
                self._folder.keep_keys(self.store.keys())
            for launch in self._folder.launches():
                try:
                    fresh = renewed_environment(launch.spec, self.store.keys())
                except Refused as error:
                    problems.append(error.message)
                    continue
                if fresh is not None:
                    spec = replace(launch.spec, environment=fresh)
                    self._folder.write(launch.spec.variant, "json", replace(launch, spec=spec).to_json())
                    renewed += 1
        if problems:
            raise Refused(
                " ".join(problems), fix=f"Put the missing key back into {SETTING}.", code="key-missing"
            )
        return renewed
