"""The overview: what needs a person, every endpoint, what finished."""
