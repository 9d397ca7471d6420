"""etcd, API server, controller manager and scheduler: how each one is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.kubernetes.build import Binaries
from tests.kubernetes.certificates import Authority, Identity
from tests.kubernetes.sandbox import Addresses

ETCD = "http://127.0.0.1:2379"
ETCD_PEERS = "http://127.0.0.1:2380"
API_PORT = 6443

# A node is taken for lost when it was silent for so long (seconds), and then its pods are evicted after so long. A real
# cluster waits 50 and 300. A busy test machine must not lose a node that is only slow.
NODE_SILENT_SECONDS = 16
EVICTED_AFTER_SECONDS = 3


@dataclass(frozen=True)
class ControlPlane:
    """The command lines, for a sandbox with these addresses. Everything in there has its own network."""

    binaries: Binaries
    addresses: Addresses
    authority: Authority
    server: Identity
    controllers: Path
    """kubeconfig of the controller manager"""
    scheduler: Path
    """kubeconfig of the scheduler"""
    tokens: tuple[Path, Path]
    """(private, public) key of service accounts"""
    asks_nodes_as: Identity
    """whom nodes take the API server for when it reads logs"""

    @property
    def url(self) -> str:
        """The API server's address, the same from this machine and inside the sandbox."""
        return f"https://{self.addresses.inside}:{API_PORT}"

    def commands(self) -> dict[str, list[str]]:
        """By name, in the order in which they are started."""
        program = str(self.binaries.control_plane)
        return {
            name: [program, name, *flags]
            for name, flags in {
                "etcd": self._etcd(),
                "kube-apiserver": self._api_server(),
                "kube-controller-manager": self._controller_manager(),
                "kube-scheduler": self._scheduler(),
            }.items()
        }

    def _etcd(self) -> list[str]:
        return [
            "--name=lab",
            "--data-dir=/run/etcd",  # in the sandbox's memory
            f"--listen-client-urls={ETCD}",
            f"--advertise-client-urls={ETCD}",
            f"--listen-peer-urls={ETCD_PEERS}",
            f"--initial-advertise-peer-urls={ETCD_PEERS}",
            f"--initial-cluster=lab={ETCD_PEERS}",
            "--unsafe-no-fsync",  # what a killed process wrote is kept by the kernel
            "--log-level=warn",
            "--quota-backend-bytes=1073741824",
        ]

    def _api_server(self) -> list[str]:
        private, public = self.tokens
        return [
            f"--etcd-servers={ETCD}",
            "--bind-address=0.0.0.0",
            f"--secure-port={API_PORT}",
            f"--advertise-address={self.addresses.bridge}",
            f"--tls-cert-file={self.server.certificate}",
            f"--tls-private-key-file={self.server.key}",
            f"--client-ca-file={self.authority.certificate}",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={self.addresses.services}",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            f"--kubelet-client-certificate={self.asks_nodes_as.certificate}",
            f"--kubelet-client-key={self.asks_nodes_as.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--anonymous-auth=false",
            "--endpoint-reconciler-type=none",
            "--profiling=false",
            f"--default-not-ready-toleration-seconds={EVICTED_AFTER_SECONDS}",
            f"--default-unreachable-toleration-seconds={EVICTED_AFTER_SECONDS}",
        ]

    def _controller_manager(self) -> list[str]:
        return [
            *self._as(self.controllers),
            f"--service-account-private-key-file={self.tokens[0]}",
            f"--root-ca-file={self.authority.certificate}",
            "--use-service-account-credentials=false",
            f"--node-monitor-grace-period={NODE_SILENT_SECONDS}s",
            "--node-monitor-period=1s",
        ]

    def _scheduler(self) -> list[str]:
        return self._as(self.scheduler)

    def _as(self, kubeconfig: Path) -> list[str]:
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            # An election would be lost, and the process end, while the API server is away.
            "--leader-elect=false",
        ]
