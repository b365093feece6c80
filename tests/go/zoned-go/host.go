//go:build wasm

package main

import (
	"errors"
	"net/netip"
	"sync"

	"example-host-gw/bindings/flannel_backend_fdb"
	"example-host-gw/bindings/flannel_backend_links"
	"example-host-gw/bindings/flannel_backend_neighbours"
	"example-host-gw/bindings/flannel_backend_node_info"
	"example-host-gw/bindings/flannel_backend_routes"
	"example-host-gw/bindings/flannel_backend_types"
	"example-host-gw/bindings/wit/types"
	_ "example-host-gw/bindings/wit_exports"
	"example-host-gw/flannel"
)

// The host itself.
type flanneld struct {
	vtep *flannel_backend_links.Link
}

func init() {
	flannel.Serving = &backend{host: &flanneld{}}
}

var external = sync.OnceValue(flannel_backend_links.External)

func (*flanneld) node() flannel.NodeInfo {
	return flannel.NodeInfo{
		Name:    flannel_backend_node_info.Name(),
		Labels:  flannel.FromPairs(flannel_backend_node_info.Labels()),
		Options: flannel.FromPairs(flannel_backend_node_info.Options()),
	}
}

func (f *flanneld) ensureVXLAN(mtu uint32) (flannel.MAC, error) {
	device := flannel_backend_links.Vxlan{
		Name:   "flannel.1",
		Vni:    1,
		Port:   wit_types.None[uint16](),
		Family: flannel_backend_types.IpFamilyIpv4,
		Mtu:    mtu,
	}
	vtep, err := flannel.Answer(flannel_backend_links.EnsureVxlan(device))
	if err != nil {
		return flannel.MAC{}, err
	}
	f.vtep = vtep
	mac := vtep.Mac()
	if mac.IsNone() {
		return flannel.MAC{}, errors.New("no MAC")
	}
	return flannel.FromMAC(mac.Some()), nil
}

func (f *flanneld) setAddress(address netip.Prefix) error {
	addresses := []flannel_backend_types.IpPrefix{flannel.ToPrefix(address)}
	return flannel.Done(f.vtep.SetAddresses(addresses))
}

func (*flanneld) putRoute(peer uint64, destination netip.Prefix, via netip.Addr) error {
	route := flannel_backend_routes.Route{Destination: flannel.ToPrefix(destination), Via: flannel.ToAddress(via)}
	return flannel.Done(flannel_backend_routes.Put(peer, route, external()))
}

func (f *flanneld) putTunnelled(peer uint64, destination netip.Prefix, mac flannel.MAC, public netip.Addr) error {
	gateway := flannel.ToAddress(destination.Addr())
	route := flannel_backend_routes.Route{Destination: flannel.ToPrefix(destination), Via: gateway, Onlink: true}
	return errors.Join(
		flannel.Done(flannel_backend_routes.Put(peer, route, f.vtep)),
		flannel.Done(flannel_backend_fdb.Put(peer, flannel.ToMAC(mac), flannel.ToAddress(public), f.vtep)),
		flannel.Done(flannel_backend_neighbours.Put(peer, gateway, flannel.ToMAC(mac), f.vtep)),
	)
}
