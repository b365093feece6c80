#!/bin/sh
# Builds example-host-gw.wasm. Needs Python 3.10 or later with venv; componentize-py comes from PyPI, the first time, into $TOOLS.
set -eu
cd "$(dirname "$0")"
tools=${TOOLS:-.tools}
if ! [ -f "$tools/complete" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.txt
    touch "$tools/complete"
fi
"$tools/bin/componentize-py" --quiet --wit-path wit --world plugin componentize policy --output example-host-gw.wasm
