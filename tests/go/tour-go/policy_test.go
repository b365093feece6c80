package main

import (
	"fmt"
	"net/netip"
	"testing"

	"example-host-gw/flannel"
)

// A host that writes down what is declared.
type recorder struct {
	entries []string
	state   map[string]string
}

func (*recorder) ensureVXLAN(uint32, uint32) (flannel.MAC, error) {
	return flannel.MAC{2, 0, 0, 0, 0, 1}, nil
}

func (*recorder) setAddresses(...netip.Prefix) error { return nil }

func (r *recorder) putPeer(peer uint64, subnet netip.Prefix, mac flannel.MAC, public netip.Addr) error {
	r.entries = append(r.entries, fmt.Sprintf("%d: %s is %s at %s", peer, subnet, mac, public))
	return nil
}

func (r *recorder) stored(key string) (string, error) { return r.state[key], nil }

func (r *recorder) store(key, value string) error {
	r.state[key] = value
	return nil
}

func (*recorder) info(string, string, string) {}

func TestStartsAreCountedAndAPeerIsServed(t *testing.T) {
	host := &recorder{state: map[string]string{"starts": "6"}}
	policy := &backend{host: host}
	options, _ := flannel.ParseOptions(`{"VNI": 7}`)
	registration, err := policy.Register(flannel.Node{IPv4: netip.MustParseAddr("192.168.0.1"), ExternalMTU: 1500}, options)
	if err != nil || registration.BackendData != `{"VNI":7,"VtepMAC":"02:00:00:00:00:01"}` || host.state["starts"] != "7" {
		t.Error(registration, err, host.state)
	}
	err = policy.Put(3, flannel.Lease{
		IPv4Subnet:  netip.MustParsePrefix("10.5.3.0/24"),
		PublicIPv4:  netip.MustParseAddr("192.168.0.3"),
		BackendType: name,
		BackendData: `{"VtepMAC":"02:00:00:00:00:03"}`,
	})
	if err != nil || len(host.entries) != 1 || host.entries[0] != "3: 10.5.3.0/24 is 02:00:00:00:00:03 at 192.168.0.3" {
		t.Error(host.entries, err)
	}
}
