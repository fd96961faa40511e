"""The words of the house as frozen values: what they mean, in which unit.

Belongs here: values and what follows from a value alone. Does not belong here:
any deed, any clock, any library beyond numpy.
"""
