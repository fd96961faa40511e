"""A version before it is served: is it there, is it whole, does it run; and where versions are kept.

Belongs here: checks of a version directory; `trial`, the program that loads one
in a process of its own and alone imports TensorFlow; numbering, storing and
copying versions. Does not belong here: serving one, or judging it against another.
"""
