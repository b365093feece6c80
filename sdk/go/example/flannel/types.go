// Package flannel is the contract in Go's own types. What it has no word for is in the generated packages below bindings/.
package flannel

import (
	"net/netip"
	"time"
)

// Policy is a backend: leases in, entries out. Each call is a transaction of the host's, applied as a whole when it succeeds.
type Policy interface {
	// Describe says who the backend is; always the same.
	Describe() Description
	// Register is called once, before all others: check the options, declare devices, and say what to publish. An error ends
	// the daemon's start; it names the option and the value, and says what would be right.
	Register(node Node, options Options) (Registration, error)
	// LeaseAcquired is called when the node holds this lease: put addresses on the devices.
	LeaseAcquired(lease Lease) error
	// Put says that a peer has this lease now: declare all that it needs. What was declared for it before is forgotten by the
	// host, so there is nothing to delete. An error rejects this peer, and leaves the others alone.
	Put(peer uint64, lease Lease) error
	// Removed says that a peer is gone, and with it all that was declared for it.
	Removed(peer uint64)
	// Tick is called after the first leases, and then whenever the time that it has answered has passed; 0: never again.
	Tick() (time.Duration, error)
}

// Description is who a backend is.
type Description struct {
	// Name has 1 to 64 characters of a-z, 0-9 and "-".
	Name string
	// Version is the plugin's own.
	Version string
	// BackendTypes are the values of Backend.Type in the network config that it is for.
	BackendTypes []string
}

// Registration is what a node publishes in its lease, and what its pods must know.
type Registration struct {
	// BackendType is what peers know the backend by.
	BackendType string
	// BackendData is JSON text for IPv4; empty: none.
	BackendData string
	// BackendV6Data is JSON text for IPv6; empty: none.
	BackendV6Data string
	// MTU is the size in bytes of the largest packet of a pod, 68 to 65535.
	MTU uint32
}

// Node is this node and its cluster. What it does not have is the zero value, whose IsValid is false.
type Node struct {
	// External is the interface over which peers are reached, ExternalMTU its largest packet.
	External    string
	ExternalMTU uint32
	// IPv4 and IPv6 are its own addresses.
	IPv4, IPv6 netip.Addr
	// PublicIPv4 and PublicIPv6 are those that are published; others behind NAT.
	PublicIPv4, PublicIPv6 netip.Addr
	// IPv4Network and IPv6Network are the cluster's.
	IPv4Network, IPv6Network netip.Prefix
}

// NodeInfo is what is known of this node besides its addresses (flannel_backend_node_info), for policies in which not all nodes are alike.
type NodeInfo struct {
	// Name is what the node is called: in Kubernetes as its object is, elsewhere as the host calls itself.
	Name string
	// Labels are those of the node's object in Kubernetes; none elsewhere. When they change, the host starts the plugin afresh.
	Labels map[string]string
	// Options are what the node's operator has given with --plugin-option.
	Options map[string]string
}

// Lease is one node's. What it does not have is the zero value, whose IsValid is false.
type Lease struct {
	IPv4Subnet, IPv6Subnet netip.Prefix
	// PublicIPv4 and PublicIPv6 are where the node is reached.
	PublicIPv4, PublicIPv6 netip.Addr
	// BackendType is the backend that wrote the lease.
	BackendType string
	// BackendData and BackendV6Data are JSON text of a stranger: check it. Empty: none.
	BackendData, BackendV6Data string
}

// Serving is the policy that the host talks to. Set it in an init function.
var Serving Policy
