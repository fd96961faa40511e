#!/bin/sh
# Print a Python interpreter that can hold the environment (3.11 to 3.13, what TensorFlow has wheels for).
# PYTHON=/path/to/python3 decides by itself.
set -u

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' </dev/null >/dev/null 2>&1
}

for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
    if fits "$candidate"; then
        echo "$candidate"
        exit 0
    fi
done

found=$( (${PYTHON:-python3} --version) 2>&1 | head -n 1)
{
    echo "error: Haldane needs Python 3.11, 3.12 or 3.13 (TensorFlow has no wheels for others)."
    echo "       ${PYTHON:-python3} says: ${found:-nothing}"
    echo "       Install one, or name it: make PYTHON=/path/to/python3.11 demo"
} >&2
exit 1
