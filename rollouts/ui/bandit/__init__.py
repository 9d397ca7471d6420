"""The page of a bandit."""
