// A backend for nodes on one link: packets for a peer's subnet go to the peer's own address. Change it to what yours does.
package main

import (
	"fmt"
	"net/netip"
	"time"

	"example-host-gw/flannel"
)

// The plugin's name, and the Backend.Type that it is for.
const (
	name    = "example-host-gw"
	version = "0.1.0"
)

// What the backend uses of the host: host.go has the real one, policy_test.go one that is made up.
type host interface {
	isOnLink(address netip.Addr) (bool, error)
	putRoute(peer uint64, destination netip.Prefix, via netip.Addr) error
	debug(message, key, value string)
}

// What has to be remembered from one call to the next goes in here.
type backend struct {
	host     host
	external string
	// Whether the cluster has the family.
	ipv4, ipv6 bool
}

func (b *backend) Describe() flannel.Description {
	return flannel.Description{Name: name, Version: version, BackendTypes: []string{name}}
}

func (b *backend) Register(node flannel.Node, options flannel.Options) (flannel.Registration, error) {
	b.external, b.ipv4, b.ipv6 = node.External, node.IPv4Network.IsValid(), node.IPv6Network.IsValid()
	// An example of an option, "Backend": {"Type": "example-host-gw", "MTU": 1400}: what is wrong with it is said by Number.
	mtu, err := options.Number("MTU", 1280, 65535, node.ExternalMTU)
	if err != nil {
		return flannel.Registration{}, err
	}
	if b.ipv4 && node.IPv4 != node.PublicIPv4 || b.ipv6 && node.IPv6 != node.PublicIPv6 {
		// Peers send to the public address: behind NAT, nothing would listen there.
		err := fmt.Errorf("the public address is not %s's own: this backend cannot work through NAT", node.External)
		return flannel.Registration{}, err
	}
	return flannel.Registration{BackendType: name, MTU: min(mtu, node.ExternalMTU)}, nil
}

func (b *backend) LeaseAcquired(flannel.Lease) error {
	// No device of its own, so no address to put anywhere.
	return nil
}

func (b *backend) Put(peer uint64, lease flannel.Lease) error {
	if lease.BackendType != name {
		b.host.debug("ignoring a peer of another backend", "type", lease.BackendType)
		return nil
	}
	if b.ipv4 {
		if err := b.reach(peer, lease.IPv4Subnet, lease.PublicIPv4); err != nil {
			return err
		}
	}
	if b.ipv6 {
		return b.reach(peer, lease.IPv6Subnet, lease.PublicIPv6)
	}
	return nil
}

func (b *backend) Removed(uint64) {
	// The entries of a peer that is gone go without us.
}

func (b *backend) Tick() (time.Duration, error) {
	return 0, nil
}

// Declares the route to a peer's subnet.
func (b *backend) reach(peer uint64, subnet netip.Prefix, public netip.Addr) error {
	if !subnet.IsValid() || !public.IsValid() {
		return nil
	}
	onLink, err := b.host.isOnLink(public)
	if err != nil {
		return err
	}
	if !onLink {
		// When this changes, the host asks again.
		return fmt.Errorf("%s is not on the link of %s: this backend needs all nodes on one link", public, b.external)
	}
	return b.host.putRoute(peer, subnet, public)
}
