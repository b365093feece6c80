#!/bin/sh
# Builds my-backend.wasm. FLANNELD says where flanneld is if it is not in the PATH.
set -eu
cd "$(dirname "$0")"
cargo build --release --target wasm32-unknown-unknown
target="${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/release"
"${FLANNELD:-flanneld}" plugin componentize "$target/$(echo flannel-plugin-my-backend | tr - _).wasm" -o my-backend.wasm
