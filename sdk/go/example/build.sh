#!/bin/sh
# Builds example-host-gw.wasm. FLANNELD says where flanneld is if it is not in the PATH.
set -eu
cd "$(dirname "$0")"
GOOS=wasip1 GOARCH=wasm go build -trimpath -buildmode=c-shared -o module.wasm .
"${FLANNELD:-flanneld}" plugin componentize module.wasm --wit wit --world backend --adapt -o example-host-gw.wasm
rm module.wasm
