//go:build wasm

package main

import (
	"net/netip"
	"sync"

	"example-host-gw/bindings/flannel_backend_links"
	"example-host-gw/bindings/flannel_backend_log"
	"example-host-gw/bindings/flannel_backend_routes"
	"example-host-gw/bindings/wit/types"
	_ "example-host-gw/bindings/wit_exports"
	"example-host-gw/flannel"
)

// The host itself. What is used in here is what the plugin asks for, and what an operator grants.
type flanneld struct{}

func init() {
	flannel.Serving = &backend{host: flanneld{}}
}

func (flanneld) isOnLink(address netip.Addr) (bool, error) {
	return flannel.Answer(flannel_backend_links.IsOnLink(flannel.ToAddress(address)))
}

// The handle of the external interface, which stays good for as long as the plugin runs. The host counts handles.
var external = sync.OnceValue(flannel_backend_links.External)

func (flanneld) putRoute(peer uint64, destination netip.Prefix, via netip.Addr) error {
	route := flannel_backend_routes.Route{Destination: flannel.ToPrefix(destination), Via: flannel.ToAddress(via)}
	_, err := flannel.Answer(flannel_backend_routes.Put(peer, route, external()))
	return err
}

func (flanneld) debug(message, key, value string) {
	fields := []wit_types.Tuple2[string, string]{{F0: key, F1: value}}
	flannel_backend_log.Write(flannel_backend_log.LevelDebug, message, fields)
}
