"""Whether a variant has room before it is started: memory of an accelerator, and room on a cluster's nodes. Pure."""
