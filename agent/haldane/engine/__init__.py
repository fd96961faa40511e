"""The shell that runs: tasks, clocks, queues.

Belongs here: looking at servers, sending what the planner asks for, feeding
the judge, being the one writer of each rollout. Does not belong here: any
choice about verdicts or phases (`judge`, `rollout`), how a system is spoken to
(`serving`, `adapters`), what is put together with what (`app`).
"""
