"""A TensorFlow-Serving-compatible server running real SavedModels.

Belongs here: everything that makes this process behave like
`tensorflow_model_server` (flags, version directories, lifecycle, labels, the
gRPC and REST APIs, the metrics page) and faults on request. Does not belong
here: anything of the agent. Imports `wire` and `serving`; only `testing`,
`demo` and `cli` start it, by module name: `python -m haldane.sandbox`.
"""
