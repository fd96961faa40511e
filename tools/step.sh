#!/bin/sh
# Run one step with a line before and a line after: sh tools/step.sh TITLE COMMAND [ARGUMENT...]
set -u
title=$1
shift
began=$(date +%s)
echo "==> $title"
"$@"
code=$?
spent=$(($(date +%s) - began))
if [ "$code" -eq 0 ]; then
    echo "    $title: done in ${spent} s"
else
    echo "    $title: FAILED (exit $code) after ${spent} s" >&2
fi
exit "$code"
