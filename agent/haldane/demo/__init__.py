"""The demo: a good, a wrong, a slow, a broken and an identical canary, on real models, against the real agent.

Belongs here: making the models, staging the processes, telling the story.
Does not belong here: anything the agent itself needs. The demo talks to the
agent as a stranger would, through config, HTTP API and version directories.
"""
