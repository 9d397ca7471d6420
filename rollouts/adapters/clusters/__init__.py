"""Where variants run. Every adapter keeps the contract of `rollouts.ports.Cluster`."""
