"""`python -m controlplane.sealing`: prints a new key for HEADGATE_ENCRYPTION_KEYS. Needs no settings."""

import sys

from controlplane.sealing.keys import new_key

if __name__ == "__main__":
    sys.stdout.write(new_key() + "\n")
