"""Numbers in, numbers out: evidence that stays valid however often it is looked at.

Belongs here: streaming statistics over plain numpy arrays, constant state,
no clock and no chance. Does not belong here: any word of the domain (pairs,
roles, verdicts), which is `judge`'s.
"""
