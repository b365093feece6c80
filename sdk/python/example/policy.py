"""A backend for nodes on one link: packets for a peer's subnet go to the peer's own address.

Each call is a transaction of the host's: it is applied when the function returns, and not at all when it raises. What was declared for
a peer is forgotten before the peer is handed over again, so there is nothing to delete.
"""

from wit_world import exports
from wit_world.exports.policy import Change, Change_Put, Description, Registration, Rejection
from wit_world.imports import links, log, routes
from wit_world.imports.types import (
    IpAddress,
    IpAddress_Ipv4,
    IpAddress_Ipv6,
    IpPrefix,
    IpPrefix_Ipv4,
    IpPrefix_Ipv6,
    Lease,
    Node,
)

from flannel_backend.addresses import text
from flannel_backend.options import Refused, number, options
from flannel_backend.refusals import in_words

# The plugin's name, and the `Backend.Type` that it is for.
NAME = "example-host-gw"
VERSION = "0.1.0"


class Cluster:
    """What `register` was told. Kept here, since each call gets a new `Policy`."""

    ipv4 = False
    ipv6 = False


class Policy(exports.Policy):
    """The functions that the host calls: `register` first, then `lease_acquired`, then `apply` and `tick`.

    Each may raise `Refused`: `in_words` makes it what the contract has for that.
    """

    def describe(self) -> Description:
        return Description(NAME, VERSION, [NAME])

    @in_words
    def register(self, node: Node, config: str) -> Registration:
        external = node.external
        Cluster.ipv4 = node.ipv4_network is not None
        Cluster.ipv6 = node.ipv6_network is not None
        behind_nat = (Cluster.ipv4 and external.ipv4 != node.public_ipv4) or (
            Cluster.ipv6 and external.ipv6 != node.public_ipv6
        )
        if behind_nat:
            # Peers send to the public address: behind NAT, nothing would listen there.
            raise Refused(f"the public address is not {external.name}'s own: this backend cannot work through NAT")
        # An example of an option, "Backend": {"Type": "example-host-gw", "MTU": 1400}: what is wrong with it is said by `number`.
        mtu = number(options(config), "MTU", 1280, 65535, external.mtu)
        return Registration(NAME, None, None, min(mtu, external.mtu))

    @in_words
    def lease_acquired(self, node_lease: Lease) -> None:
        # No device of its own, so no address to put anywhere.
        pass

    @in_words
    def apply(self, changes: list[Change]) -> list[Rejection]:
        rejections = []
        for change in changes:
            # The entries of a peer that is gone go without us.
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
    if lease.backend_type != NAME:
        log.write(log.Level.DEBUG, "ignoring a peer of another backend", [("type", lease.backend_type)])
        return
    if Cluster.ipv4 and lease.ipv4_subnet and lease.public_ipv4:
        reach(peer, IpPrefix_Ipv4(lease.ipv4_subnet), IpAddress_Ipv4(lease.public_ipv4))
    if Cluster.ipv6 and lease.ipv6_subnet and lease.public_ipv6:
        reach(peer, IpPrefix_Ipv6(lease.ipv6_subnet), IpAddress_Ipv6(lease.public_ipv6))


def reach(peer: int, subnet: IpPrefix, public: IpAddress) -> None:
    """Declares the route to a peer's subnet."""
    with links.external() as external:
        if not links.is_on_link(public):
            # When this changes, the host asks again.
            raise Refused(f"{text(public)} is not on the link of {external.name()}: this backend needs all nodes on one link")
        routes.put(peer, routes.Route(subnet, public, onlink=False), external)
