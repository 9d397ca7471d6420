"""Trials of a gateway: two backends of our own behind a route of our own, asked and taken away again."""
