"""What people and pipelines ask for: one mutation each."""
