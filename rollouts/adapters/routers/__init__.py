"""Routers: Envoy on one machine, and one in memory."""
