"""A rollout's states, what moves it from one to the next, and what keeps it safe."""
