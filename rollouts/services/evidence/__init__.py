"""Recorded evidence decided again."""
