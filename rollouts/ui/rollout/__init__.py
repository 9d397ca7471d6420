"""The page of a rollout: a canary's, and what every rollout's views have in common."""
