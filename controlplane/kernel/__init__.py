"""The kernel: a closed list of pure Python that every other room may import (errors, clock, digests, plain and foreign
values, credentials)."""
