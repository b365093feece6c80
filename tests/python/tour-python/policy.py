"""What docs/languages.md shows of a backend in Python: nodes reach each other by VXLAN, and each counts its starts."""

import json

from wit_world import exports
from wit_world.exports.policy import Change, Change_Put, Description, Registration, Rejection
from wit_world.imports import fdb, links, log, neighbours, routes, state
from wit_world.imports.types import IpAddress_Ipv4, IpFamily, IpPrefix_Ipv4, Ipv4Prefix, Lease, Node

from flannel_backend import addresses
from flannel_backend.options import Refused, number, options, text
from flannel_backend.refusals import in_words

NAME = "tour"
# Bytes that VXLAN adds to a packet.
OVERHEAD = 50


class Own:
    """What is kept from call to call: each gets a new `Policy`."""

    # A handle stays valid for as long as the plugin runs.
    vtep: links.Link


class Policy(exports.Policy):
    def describe(self) -> Description:
        return Description(NAME, "0.1.0", [NAME])

    @in_words
    def register(self, node: Node, config: str) -> Registration:
        if node.external.ipv4 is None:
            raise Refused("tour tunnels IPv4, which this cluster does not have")
        vni = number(options(config), "VNI", 1, 16777215, missing=1)
        count_start()
        mtu = node.external.mtu - OVERHEAD
        Own.vtep = links.ensure_vxlan(
            links.Vxlan(f"flannel.{vni}", vni, port=None, family=IpFamily.IPV4, learning=False, gbp=False, mtu=mtu)
        )
        data = {"VNI": vni, "VtepMAC": addresses.mac_text(Own.vtep.mac())}
        return Registration(NAME, json.dumps(data, separators=(",", ":")), None, mtu)

    @in_words
    def lease_acquired(self, node_lease: Lease) -> None:
        subnet = node_lease.ipv4_subnet
        Own.vtep.set_addresses([IpPrefix_Ipv4(Ipv4Prefix(subnet.address, 32))] if subnet else [])

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


def count_start() -> None:
    """Counts this start in the durable store, and says it in the log."""
    stored = state.get("starts") or b""
    starts = (int(stored) if stored.isdigit() else 0) + 1
    state.set("starts", str(starts).encode())
    log.write(log.Level.INFO, "started", [("starts", str(starts))])


def put(peer: int, lease: Lease) -> None:
    """Declares what a peer needs."""
    subnet, public = lease.ipv4_subnet, lease.public_ipv4
    if lease.backend_type != NAME or subnet is None or public is None:
        return
    written = text(options(lease.backend_data or "{}"), "VtepMAC")
    if written is None:
        raise Refused("there is no VtepMAC")
    mac, gateway = addresses.mac(written), IpAddress_Ipv4(subnet.address)
    routes.put(peer, routes.Route(IpPrefix_Ipv4(subnet), gateway, onlink=True), Own.vtep)
    fdb.put(peer, mac, IpAddress_Ipv4(public), Own.vtep)
    neighbours.put(peer, gateway, mac, Own.vtep)
