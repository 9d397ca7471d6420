"""Request logs: Envoy's access log, and one in memory."""
