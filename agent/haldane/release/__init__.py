"""A version before it is served: is it there, is it whole.

Belongs here: checks of a version directory that need no TensorFlow. Does not
belong here: loading it, which is Serving's affair.
"""
