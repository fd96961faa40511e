"""The only place that knows everything: settings in, opened adapters, the tree of tasks.

Belongs here: putting parts together, and the answers the API needs of all of
them. Does not belong here: anything one part could know alone.
"""
