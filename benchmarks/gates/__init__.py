"""Evidence for the gates' and bandits' promises: `make bench-gates`, or `python -m benchmarks.gates --help`.

`traffic` draws what a rollout would see, `rules` looks at it with the product's own code, `peers` with other
tools' rules, `tables` says which settings make which table, `running` spreads the work over processes and
`report` writes the page.
"""
