"""Callers and a responder for what shadowing costs on the wire.

`responder` is nginx as two gRPC servers that answer everything with one canned
reply each: C, so that the client is what is measured. `bare` and `product` are
the sides that are compared, each a process of its own that imports no more than
it needs; `lean` and `curl` are what else Python could call with.
"""
