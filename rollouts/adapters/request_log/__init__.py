"""Request logs: Envoy's access log, what a gateway on a cluster sends, and one in memory."""
