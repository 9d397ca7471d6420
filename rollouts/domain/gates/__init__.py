"""The gates: what is tested on the evidence of a rollout, how, and what came out.

Read in this order: `policy` (what is tested), `family` (the whole rollout), `verdict` (what comes out), then
the e-processes `proportion` and `paired`. Everything is a pure function of its arguments: no clock, no
randomness. `docs/statistics.md` says in words what is promised and what is assumed.
"""
