"""What happened to a rollout or an endpoint, a page at a time."""
