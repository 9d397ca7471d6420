"""Gate policies: versions, numbers, texts, and a rollout's own."""
