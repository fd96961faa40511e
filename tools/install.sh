#!/bin/sh
# Install this checkout with the given extra into VENV, every version pinned: sh tools/install.sh VENV EXTRA
set -eu
venv=$1
extra=$2
python=$venv/bin/python

# uv is several times faster; without it pip does the same work.
if [ ! -x "$venv/bin/uv" ]; then
    "$python" -m pip install --quiet --disable-pip-version-check -c constraints.txt uv </dev/null ||
        echo "    uv could not be installed; going on with pip" >&2
fi
if [ -x "$venv/bin/uv" ]; then
    # --compile-bytecode: else the first import of TensorFlow compiles thousands of files, 10 s and more.
    quiet=--quiet
    [ -t 2 ] && quiet=
    # shellcheck disable=SC2086  # empty means no argument
    exec "$venv/bin/uv" pip install $quiet --python "$python" --compile-bytecode -c constraints.txt -b constraints.txt -e ".[$extra]" </dev/null
fi
exec "$python" -m pip install --disable-pip-version-check -c constraints.txt -e ".[$extra]" </dev/null
