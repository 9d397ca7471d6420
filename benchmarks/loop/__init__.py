"""What the loop costs with many endpoints (see `__main__`)."""
