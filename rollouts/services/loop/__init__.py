"""The loop: claim, read, observe, measure, decide, write, act; and when to look again."""
