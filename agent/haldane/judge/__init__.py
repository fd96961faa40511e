"""Evidence to Verdict: the rules fixed beforehand, the folding of pairs, findings, words for them.

Belongs here: what batches of pairs say under frozen rules, as pure functions
and streaming state. Does not belong here: asking for data, clocks, acting on
a verdict, and the numbers themselves, which are `stats`'s.
"""
