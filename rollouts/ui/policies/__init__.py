"""Gate policies: the list, one of them, and the next version."""
