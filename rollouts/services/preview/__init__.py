"""What a rollout would do and need, before it is started."""
