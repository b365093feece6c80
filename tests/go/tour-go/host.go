//go:build wasm

package main

import (
	"errors"
	"fmt"
	"net/netip"

	"example-host-gw/bindings/flannel_backend_fdb"
	"example-host-gw/bindings/flannel_backend_links"
	"example-host-gw/bindings/flannel_backend_log"
	"example-host-gw/bindings/flannel_backend_neighbours"
	"example-host-gw/bindings/flannel_backend_routes"
	"example-host-gw/bindings/flannel_backend_state"
	"example-host-gw/bindings/flannel_backend_types"
	"example-host-gw/bindings/wit/types"
	_ "example-host-gw/bindings/wit_exports"
	"example-host-gw/flannel"
)

// The host itself.
type flanneld struct {
	// A handle stays valid for as long as the plugin runs.
	vtep *flannel_backend_links.Link
}

func init() {
	flannel.Serving = &backend{host: &flanneld{}}
}

func (f *flanneld) ensureVXLAN(vni, mtu uint32) (flannel.MAC, error) {
	vtep, err := flannel.Answer(flannel_backend_links.EnsureVxlan(flannel_backend_links.Vxlan{
		Name:   fmt.Sprintf("flannel.%d", vni),
		Vni:    vni,
		Port:   wit_types.None[uint16](),
		Family: flannel_backend_types.IpFamilyIpv4,
		Mtu:    mtu,
	}))
	if err != nil {
		return flannel.MAC{}, err
	}
	f.vtep = vtep
	return flannel.FromMAC(vtep.Mac().Some()), nil
}

func (f *flanneld) setAddresses(addresses ...netip.Prefix) error {
	var given []flannel_backend_types.IpPrefix
	for _, address := range addresses {
		given = append(given, flannel.ToPrefix(address))
	}
	return flannel.Done(f.vtep.SetAddresses(given))
}

func (f *flanneld) putPeer(peer uint64, subnet netip.Prefix, mac flannel.MAC, public netip.Addr) error {
	gateway := flannel.ToAddress(subnet.Addr())
	route := flannel_backend_routes.Route{Destination: flannel.ToPrefix(subnet), Via: gateway, Onlink: true}
	return errors.Join(
		flannel.Done(flannel_backend_routes.Put(peer, route, f.vtep)),
		flannel.Done(flannel_backend_fdb.Put(peer, flannel.ToMAC(mac), flannel.ToAddress(public), f.vtep)),
		flannel.Done(flannel_backend_neighbours.Put(peer, gateway, flannel.ToMAC(mac), f.vtep)),
	)
}

func (*flanneld) stored(key string) (string, error) {
	value, err := flannel.Answer(flannel_backend_state.Get(key))
	return string(value.SomeOr(nil)), err
}

func (*flanneld) store(key, value string) error {
	return flannel.Done(flannel_backend_state.Set(key, wit_types.Some([]byte(value))))
}

func (*flanneld) info(message, key, value string) {
	fields := []wit_types.Tuple2[string, string]{{F0: key, F1: value}}
	flannel_backend_log.Write(flannel_backend_log.LevelInfo, message, fields)
}
