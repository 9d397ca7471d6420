"""Signals out of a Prometheus: what gateways count of the arms, and what engines say of themselves."""
