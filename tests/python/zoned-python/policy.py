"""A policy for IPv4 that looks where nodes are, as `tests/components/zoned` does in Rust: those of one zone reach each other by plain
routes, as they are on one link, and all others by VXLAN. A node's zone is the one that its operator gives it (`--plugin-option zone=…`),
or else the one of its label in Kubernetes.
"""

import json

from wit_world import exports
from wit_world.exports.policy import Change, Change_Put, Description, Registration, Rejection
from wit_world.imports import fdb, links, neighbours, node_info, routes
from wit_world.imports.types import (
    IpAddress_Ipv4,
    IpFamily,
    IpPrefix_Ipv4,
    Ipv4Prefix,
    Lease,
    Node,
)

from flannel_backend import addresses
from flannel_backend.options import Refused, options, text
from flannel_backend.refusals import in_words

# What Kubernetes calls a node's zone.
LABEL = "topology.kubernetes.io/zone"
# What a VXLAN packet adds.
OVERHEAD = 50


class Own:
    """What `register` was told. Kept here, since each call gets a new `Policy`."""

    zone: str
    vtep: links.Link


class Policy(exports.Policy):
    def describe(self) -> Description:
        return Description("zoned", "0.1.0", ["vxlan"])

    @in_words
    def register(self, node: Node, config: str) -> Registration:
        Own.zone = dict(node_info.options()).get("zone", dict(node_info.labels()).get(LABEL, ""))
        if not Own.zone:
            raise Refused(f"node {node_info.name()} has no label {LABEL}, and there is no --plugin-option zone=…")
        mtu = node.external.mtu - OVERHEAD
        Own.vtep = links.ensure_vxlan(
            links.Vxlan("flannel.1", vni=1, port=None, family=IpFamily.IPV4, learning=False, gbp=False, mtu=mtu)
        )
        mac = Own.vtep.mac()
        if mac is None:
            raise Refused("no MAC")
        data = {"VNI": 1, "VtepMAC": addresses.mac_text(mac), "Zone": Own.zone}
        return Registration("vxlan", json.dumps(data, separators=(",", ":")), None, mtu)

    @in_words
    def lease_acquired(self, node_lease: Lease) -> None:
        subnet = node_lease.ipv4_subnet
        if subnet is None:
            raise Refused("no IPv4 subnet")
        Own.vtep.set_addresses([IpPrefix_Ipv4(Ipv4Prefix(subnet.address, 32))])

    @in_words
    def apply(self, changes: list[Change]) -> list[Rejection]:
        rejections = []
        for change in changes:
            if not isinstance(change, Change_Put):
                continue
            peer, lease = change.value
            try:
                put(peer, lease)
            except Refused as reason:
                rejections.append(Rejection(peer, str(reason)))
        return rejections

    @in_words
    def tick(self) -> int | None:
        return None


def put(peer: int, lease: Lease) -> None:
    """Declares what a peer needs."""
    subnet, public = lease.ipv4_subnet, lease.public_ipv4
    if lease.backend_type != "vxlan" or subnet is None or public is None:
        return
    if lease.backend_data is None:
        raise Refused("no data")
    data = options(lease.backend_data)
    destination, node = IpPrefix_Ipv4(subnet), IpAddress_Ipv4(public)
    if text(data, "Zone") == Own.zone:
        with links.external() as external:
            routes.put(peer, routes.Route(destination, node, onlink=False), external)
        return
    written = text(data, "VtepMAC")
    if written is None:
        raise Refused("no MAC")
    mac, gateway = addresses.mac(written), IpAddress_Ipv4(subnet.address)
    routes.put(peer, routes.Route(destination, gateway, onlink=True), Own.vtep)
    fdb.put(peer, mac, node, Own.vtep)
    neighbours.put(peer, gateway, mac, Own.vtep)
