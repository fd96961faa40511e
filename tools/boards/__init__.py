"""The Grafana boards as code: `python -m tools.boards` writes dashboards/*.json from here.

`panels` says how a panel of each kind looks, `frame` what stands around them; `words` the closed
sets they show; each other module is one board. Nothing of the agent is imported: a board knows series by the
names in docs/reference/metrics.md.
"""
