//! Tests of the tunnel: its parts by model and by chance, the whole in network namespaces (as root).

mod alive;
mod errors;
mod fragments;
mod handover;
mod lab;
mod merging;
mod model;
mod peers;
mod proxy;
mod splitting;
mod transfer;
mod wire;
