"""Replays, and a policy tried on past rollouts."""
