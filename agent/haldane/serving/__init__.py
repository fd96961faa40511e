"""All we know of TF Serving: its calls, its config text, its metrics page, its logs of requests.

Witnesses only: what is here reports what a server said or does what it is told,
once. Which version should be where is decided in `rollout`, when in `engine`.
"""
