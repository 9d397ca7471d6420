"""The page of a new rollout: the form and its dry run."""
