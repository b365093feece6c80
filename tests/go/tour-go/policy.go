// What docs/languages.md shows of a backend in Go: nodes reach each other by VXLAN, and each counts its starts.
package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"example-host-gw/flannel"
)

const (
	name = "tour"
	// Bytes that VXLAN adds to a packet.
	overhead = 50
)

// What the backend uses of the host: host.go has the real one, policy_test.go one that is made up.
type host interface {
	// Declares the VXLAN device, and answers its Ethernet address.
	ensureVXLAN(vni, mtu uint32) (flannel.MAC, error)
	setAddresses(addresses ...netip.Prefix) error
	// All that a peer needs.
	putPeer(peer uint64, subnet netip.Prefix, mac flannel.MAC, public netip.Addr) error
	// What the durable store has, or "".
	stored(key string) (string, error)
	store(key, value string) error
	info(message, key, value string)
}

type backend struct {
	host host
}

func (b *backend) Describe() flannel.Description {
	return flannel.Description{Name: name, Version: "0.1.0", BackendTypes: []string{name}}
}

func (b *backend) Register(node flannel.Node, options flannel.Options) (none flannel.Registration, err error) {
	if !node.IPv4.IsValid() {
		return none, errors.New("tour tunnels IPv4, which this cluster does not have")
	}
	vni, err := options.Number("VNI", 1, 16777215, 1)
	if err != nil {
		return none, err
	}
	if err := b.countStart(); err != nil {
		return none, err
	}
	mtu := node.ExternalMTU - overhead
	mac, err := b.host.ensureVXLAN(vni, mtu)
	if err != nil {
		return none, err
	}
	data := fmt.Sprintf(`{"VNI":%d,"VtepMAC":"%s"}`, vni, mac)
	return flannel.Registration{BackendType: name, BackendData: data, MTU: mtu}, nil
}

// Counts this start in the durable store, and says it in the log.
func (b *backend) countStart() error {
	stored, err := b.host.stored("starts")
	if err != nil {
		return err
	}
	// What is no number counts as none.
	starts, _ := strconv.ParseUint(stored, 10, 32)
	number := strconv.FormatUint(starts+1, 10)
	b.host.info("started", "starts", number)
	return b.host.store("starts", number)
}

func (b *backend) LeaseAcquired(lease flannel.Lease) error {
	if !lease.IPv4Subnet.IsValid() {
		return b.host.setAddresses()
	}
	return b.host.setAddresses(netip.PrefixFrom(lease.IPv4Subnet.Addr(), 32))
}

func (b *backend) Put(peer uint64, lease flannel.Lease) error {
	if lease.BackendType != name || !lease.IPv4Subnet.IsValid() || !lease.PublicIPv4.IsValid() {
		return nil
	}
	mac, err := vtepMAC(lease.BackendData)
	if err != nil {
		return err
	}
	return b.host.putPeer(peer, lease.IPv4Subnet, mac, lease.PublicIPv4)
}

// Reads what a peer has published, which is a stranger's input.
func vtepMAC(data string) (none flannel.MAC, err error) {
	written := ""
	if data != "" {
		members, err := flannel.ParseOptions(data)
		if err != nil {
			return none, err
		}
		if written, err = members.Text("VtepMAC", ""); err != nil {
			return none, err
		}
	}
	if written == "" {
		return none, errors.New("there is no VtepMAC")
	}
	return flannel.ParseMAC(written)
}

func (b *backend) Removed(uint64) {}

func (b *backend) Tick() (time.Duration, error) {
	return 0, nil
}
