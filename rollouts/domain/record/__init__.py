"""What was counted and decided, as it is kept, and decided again."""
