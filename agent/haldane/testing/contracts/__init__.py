"""One suite per port: what every implementation promises, ours or a stranger's. Subclass it and give its fixture."""
