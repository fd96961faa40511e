"""A version before it is served: is it there, is it whole, does it run.

Belongs here: checks of a version directory, and `trial`, the program that loads
one in a process of its own and alone imports TensorFlow. Does not belong here:
serving it, or judging it against another.
"""
