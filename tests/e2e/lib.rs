//! The end-to-end tests: the real daemon, in clusters that `flannel-lab` makes. One file for each thing that a user relies on, all of them
//! in one program, so that they run side by side and are linked once.

#![cfg(test)]

mod ali_vpc;
mod alibaba;
mod authors;
mod aws_lab;
mod aws_vpc;
mod backends;
mod change;
mod clones;
mod clouds;
mod cni;
mod command_line;
mod config;
mod containment;
mod contract;
mod counted;
mod external;
mod faults;
mod firewall;
mod firewall_tools;
mod gce;
mod gce_cloud;
mod hetzner;
mod hostile;
mod ipip;
mod kernel;
mod kubernetes;
mod lab;
mod languages;
mod lease_gate;
mod leases;
mod node_info;
mod output;
mod own_address;
mod ownership;
mod privileges;
mod rates;
mod readmes;
mod reference;
mod refusals;
mod registry;
mod repair;
mod restart;
mod several;
mod signals;
mod signatures;
mod status;
mod strangers;
mod swap;
mod tencent_vpc;
mod traffic;
mod tunnel;
mod underlay;
mod wireguard;
