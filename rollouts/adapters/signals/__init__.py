"""Signals: the router's counters, the engines' own metrics, both together, and signals in memory."""
