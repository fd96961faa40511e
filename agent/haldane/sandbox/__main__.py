"""`python -m haldane.sandbox --port=8500 --rest_api_port=8501 --model_config_file=models.config`."""

import os
import sys

from haldane.sandbox.server import main

if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Not sys.exit: loader and gRPC threads may be busy, and a real server's exit waits for none of them.
    os._exit(status)
