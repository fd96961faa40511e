"""From a verdict and what is seen to what should hold: the order of the court.

Belongs here: the rollout machine, the config each server should have, and the
next safe step toward it. Does not belong here: sending anything, reading a
clock, statistics.
"""
