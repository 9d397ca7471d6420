"""Sets up the project's environments from the system's Python, with the standard library alone."""
