package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"example-host-gw/flannel"
)

// A host that writes down what is declared.
type recorder struct {
	onLink  netip.Prefix
	entries []string
}

func (r *recorder) isOnLink(address netip.Addr) (bool, error) {
	return r.onLink.Contains(address), nil
}

func (r *recorder) putRoute(peer uint64, destination netip.Prefix, via netip.Addr) error {
	r.entries = append(r.entries, fmt.Sprintf("%d: %s via %s", peer, destination, via))
	return nil
}

func (r *recorder) debug(string, string, string) {}

func register(t *testing.T, options string) (*backend, *recorder, flannel.Registration, error) {
	t.Helper()
	parsed, err := flannel.ParseOptions(options)
	if err != nil {
		t.Fatal(err)
	}
	host := &recorder{onLink: netip.MustParsePrefix("192.168.0.0/24")}
	policy := &backend{host: host}
	own := netip.MustParseAddr("192.168.0.1")
	registration, err := policy.Register(flannel.Node{
		External:    "eth0",
		ExternalMTU: 1500,
		IPv4:        own,
		PublicIPv4:  own,
		IPv4Network: netip.MustParsePrefix("10.5.0.0/16"),
	}, parsed)
	return policy, host, registration, err
}

func peer(public string) flannel.Lease {
	return flannel.Lease{
		IPv4Subnet:  netip.MustParsePrefix("10.5.3.0/24"),
		PublicIPv4:  netip.MustParseAddr(public),
		BackendType: name,
	}
}

func TestAPeerIsARoute(t *testing.T) {
	policy, host, _, err := register(t, "{}")
	if err != nil {
		t.Fatal(err)
	}
	if err := policy.Put(7, peer("192.168.0.101")); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(host.entries, []string{"7: 10.5.3.0/24 via 192.168.0.101"}) {
		t.Error(host.entries)
	}
}

func TestAPeerThatIsNotOnTheLinkIsRejected(t *testing.T) {
	policy, host, _, _ := register(t, "{}")
	err := policy.Put(7, peer("203.0.113.4"))
	if err == nil || len(host.entries) > 0 {
		t.Error(err, host.entries)
	}
}

func TestThePeerOfAnotherBackendIsNoBusinessOfOurs(t *testing.T) {
	policy, host, _, _ := register(t, "{}")
	lease := peer("203.0.113.4")
	lease.BackendType = "vxlan"
	if err := policy.Put(7, lease); err != nil || len(host.entries) > 0 {
		t.Error(err, host.entries)
	}
}

func TestTheMTUCanBeLowered(t *testing.T) {
	for options, mtu := range map[string]uint32{`{}`: 1500, `{"mtu": 1400}`: 1400, `{"MTU": 9000}`: 1500} {
		if _, _, registration, err := register(t, options); err != nil || registration.MTU != mtu {
			t.Error(options, registration, err)
		}
	}
	if _, _, _, err := register(t, `{"MTU": "large"}`); err == nil {
		t.Error("a text is no number")
	}
}
