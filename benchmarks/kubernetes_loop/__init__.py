"""What a thousand endpoints on one cluster cost its API server, and how fast the loop follows it (see `__main__`)."""
