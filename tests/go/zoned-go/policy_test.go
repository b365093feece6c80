package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"example-host-gw/flannel"
)

// A host that writes down what is declared.
type recorder struct {
	about   flannel.NodeInfo
	entries []string
}

func (r *recorder) node() flannel.NodeInfo { return r.about }

func (r *recorder) ensureVXLAN(uint32) (flannel.MAC, error) {
	return flannel.MAC{2, 0, 0, 0, 0, 1}, nil
}

func (r *recorder) setAddress(netip.Prefix) error { return nil }

func (r *recorder) putRoute(peer uint64, destination netip.Prefix, via netip.Addr) error {
	r.entries = append(r.entries, fmt.Sprintf("%d: %s via %s", peer, destination, via))
	return nil
}

func (r *recorder) putTunnelled(peer uint64, destination netip.Prefix, mac flannel.MAC, public netip.Addr) error {
	r.entries = append(r.entries, fmt.Sprintf("%d: %s is %s at %s", peer, destination, mac, public))
	return nil
}

func register(about flannel.NodeInfo) (*backend, *recorder, flannel.Registration, error) {
	host := &recorder{about: about}
	policy := &backend{host: host}
	registration, err := policy.Register(flannel.Node{ExternalMTU: 1500}, flannel.Options{})
	return policy, host, registration, err
}

func TestTheOperatorsZoneComesBeforeTheLabelAndWithoutBothTheNodeIsNamed(t *testing.T) {
	about := flannel.NodeInfo{Name: "node-1"}
	if _, _, _, err := register(about); err == nil || !strings.HasPrefix(err.Error(), "node node-1 has no label topology.kubernetes.io/zone") {
		t.Error(err)
	}
	about.Labels = map[string]string{label: "b"}
	if policy, _, _, err := register(about); err != nil || policy.zone != "b" {
		t.Error(policy.zone, err)
	}
	about.Options = map[string]string{"zone": "a"}
	policy, _, registration, err := register(about)
	if err != nil || policy.zone != "a" || registration.BackendData != `{"VNI":1,"VtepMAC":"02:00:00:00:00:01","Zone":"a"}` {
		t.Error(policy.zone, registration, err)
	}
}

func TestAPeerOfTheZoneIsARouteAndAnotherIsTunnelled(t *testing.T) {
	policy, host, _, _ := register(flannel.NodeInfo{Options: map[string]string{"zone": "a"}})
	for peer, zone := range []string{"a", "b"} {
		lease := flannel.Lease{
			IPv4Subnet:  netip.MustParsePrefix("10.5.3.0/24"),
			PublicIPv4:  netip.MustParseAddr("192.168.0.3"),
			BackendType: backendType,
			BackendData: fmt.Sprintf(`{"VNI":1,"VtepMAC":"02:00:00:00:00:03","Zone":"%s"}`, zone),
		}
		if err := policy.Put(uint64(peer), lease); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(host.entries, []string{"0: 10.5.3.0/24 via 192.168.0.3", "1: 10.5.3.0/24 is 02:00:00:00:00:03 at 192.168.0.3"}) {
		t.Error(host.entries)
	}
}

func TestAPeerWithOddDataIsRejectedInWords(t *testing.T) {
	policy, host, _, _ := register(flannel.NodeInfo{Options: map[string]string{"zone": "a"}})
	for data, said := range map[string]string{
		"":                        "no data",
		"[]":                      "[] is not a JSON object",
		`{"Zone":1}`:              "Zone: 1 is not a text in quotes",
		`{"Zone":"b"}`:            "no MAC",
		`{"VtepMAC":"x"}`:         `"x" is no Ethernet address`,
		`{"Zone":"b","VtepMAC":}`: "is not a JSON object",
	} {
		err := policy.Put(1, flannel.Lease{
			IPv4Subnet:  netip.MustParsePrefix("10.5.3.0/24"),
			PublicIPv4:  netip.MustParseAddr("192.168.0.3"),
			BackendType: backendType,
			BackendData: data,
		})
		if err == nil || !strings.Contains(err.Error(), said) || len(host.entries) > 0 {
			t.Error(data, err, host.entries)
		}
	}
}
