"""One outside system, one file: settings, class, opener.

Adapters translate what they expect into a PortError; they decide nothing.
"""
