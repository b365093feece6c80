#!/bin/sh
# Builds example-host-gw.wasm. Needs Zig 0.15; ZIG and FLANNELD say where that and flanneld are if they are not in the PATH.
set -eu
cd "$(dirname "$0")"
# Safe: what would be undefined is a panic. With names and line tables, which are for a trap's message.
${ZIG:-zig} build-exe policy.zig bindings/plugin.c -target wasm32-freestanding -O ReleaseSafe -fno-strip \
    -fno-entry --stack 65536 -I bindings -isystem include -femit-bin=module.wasm
"${FLANNELD:-flanneld}" plugin componentize module.wasm --wit wit --world backend -o example-host-gw.wasm
