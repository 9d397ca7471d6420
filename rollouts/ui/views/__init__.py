"""Thin views: selectors and page modules read, services write."""
