// A policy for IPv4 that looks where nodes are, as tests/components/zoned does in Rust: those of one zone reach each other by plain routes, as
// they are on one link, and all others by VXLAN. A node's zone is the one that its operator gives it (--plugin-option zone=…), or else the
// one of its label in Kubernetes.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"example-host-gw/flannel"
)

const (
	backendType = "vxlan"
	// What Kubernetes calls a node's zone.
	label = "topology.kubernetes.io/zone"
	// Bytes that VXLAN adds to a packet.
	overhead = 50
)

// What the backend uses of the host: host.go has the real one, policy_test.go one that is made up.
type host interface {
	node() flannel.NodeInfo
	// Declares the VXLAN device, and answers its Ethernet address.
	ensureVXLAN(mtu uint32) (flannel.MAC, error)
	setAddress(address netip.Prefix) error
	// A route over the external interface.
	putRoute(peer uint64, destination netip.Prefix, via netip.Addr) error
	// All that a peer behind the VXLAN device needs.
	putTunnelled(peer uint64, destination netip.Prefix, mac flannel.MAC, public netip.Addr) error
}

type backend struct {
	host host
	zone string
}

// What nodes publish.
type published struct {
	VNI     int
	VtepMAC string
	Zone    string
}

func (b *backend) Describe() flannel.Description {
	return flannel.Description{Name: "zoned", Version: "0.1.0", BackendTypes: []string{backendType}}
}

func (b *backend) Register(node flannel.Node, _ flannel.Options) (flannel.Registration, error) {
	about := b.host.node()
	zone, given := about.Options["zone"]
	if !given {
		zone = about.Labels[label]
	}
	if b.zone = zone; zone == "" {
		err := fmt.Errorf("node %s has no label %s, and there is no --plugin-option zone=…", about.Name, label)
		return flannel.Registration{}, err
	}
	mtu := node.ExternalMTU - overhead
	mac, err := b.host.ensureVXLAN(mtu)
	if err != nil {
		return flannel.Registration{}, err
	}
	data, err := json.Marshal(published{VNI: 1, VtepMAC: mac.String(), Zone: b.zone})
	if err != nil {
		return flannel.Registration{}, err
	}
	return flannel.Registration{BackendType: backendType, BackendData: string(data), MTU: mtu}, nil
}

func (b *backend) LeaseAcquired(lease flannel.Lease) error {
	if !lease.IPv4Subnet.IsValid() {
		return errors.New("no IPv4 subnet")
	}
	return b.host.setAddress(netip.PrefixFrom(lease.IPv4Subnet.Addr(), 32))
}

func (b *backend) Put(peer uint64, lease flannel.Lease) error {
	if lease.BackendType != backendType || !lease.IPv4Subnet.IsValid() || !lease.PublicIPv4.IsValid() {
		return nil
	}
	if lease.BackendData == "" {
		return errors.New("no data")
	}
	data, err := flannel.ParseOptions(lease.BackendData)
	if err != nil {
		return err
	}
	zone, err := data.Text("Zone", "")
	if err != nil {
		return err
	}
	if zone == b.zone {
		return b.host.putRoute(peer, lease.IPv4Subnet, lease.PublicIPv4)
	}
	written, err := data.Text("VtepMAC", "")
	if err != nil {
		return err
	}
	if written == "" {
		return errors.New("no MAC")
	}
	mac, err := flannel.ParseMAC(written)
	if err != nil {
		return err
	}
	return b.host.putTunnelled(peer, lease.IPv4Subnet, mac, lease.PublicIPv4)
}

func (b *backend) Removed(uint64) {}

func (b *backend) Tick() (time.Duration, error) {
	return 0, nil
}
