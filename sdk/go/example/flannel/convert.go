package flannel

import (
	"errors"
	"net/netip"

	"example-host-gw/bindings/flannel_backend_types"
	"example-host-gw/bindings/wit/types"
)

type (
	octets = wit_types.Tuple4[uint8, uint8, uint8, uint8]
	groups = wit_types.Tuple8[uint16, uint16, uint16, uint16, uint16, uint16, uint16, uint16]
)

func fromOctets(a octets) netip.Addr {
	return netip.AddrFrom4([4]byte{a.F0, a.F1, a.F2, a.F3})
}

func toOctets(address netip.Addr) octets {
	a := address.As4()
	return octets{F0: a[0], F1: a[1], F2: a[2], F3: a[3]}
}

func fromGroups(a groups) netip.Addr {
	var bytes [16]byte
	for i, group := range [8]uint16{a.F0, a.F1, a.F2, a.F3, a.F4, a.F5, a.F6, a.F7} {
		bytes[2*i], bytes[2*i+1] = byte(group>>8), byte(group)
	}
	return netip.AddrFrom16(bytes)
}

func toGroups(address netip.Addr) groups {
	bytes := address.As16()
	group := func(i int) uint16 { return uint16(bytes[2*i])<<8 | uint16(bytes[2*i+1]) }
	return groups{F0: group(0), F1: group(1), F2: group(2), F3: group(3), F4: group(4), F5: group(5), F6: group(6), F7: group(7)}
}

// ToAddress is an address as the generated packages have it.
func ToAddress(address netip.Addr) flannel_backend_types.IpAddress {
	if address.Is4() {
		return flannel_backend_types.MakeIpAddressIpv4(toOctets(address))
	}
	return flannel_backend_types.MakeIpAddressIpv6(toGroups(address))
}

// ToPrefix is a network as the generated packages have it.
func ToPrefix(prefix netip.Prefix) flannel_backend_types.IpPrefix {
	length := uint8(prefix.Bits())
	if prefix.Addr().Is4() {
		address := toOctets(prefix.Addr())
		return flannel_backend_types.MakeIpPrefixIpv4(flannel_backend_types.Ipv4Prefix{Address: address, Length: length})
	}
	address := toGroups(prefix.Addr())
	return flannel_backend_types.MakeIpPrefixIpv6(flannel_backend_types.Ipv6Prefix{Address: address, Length: length})
}

// ToError is the host's refusal. The transaction of the call is void after it, also if the backend carries on.
func ToError(refusal flannel_backend_types.Error) error {
	switch refusal.Tag() {
	case flannel_backend_types.ErrorInvalidArgument:
		return errors.New(refusal.InvalidArgument())
	case flannel_backend_types.ErrorDenied:
		return errors.New(refusal.Denied())
	case flannel_backend_types.ErrorLimitExceeded:
		return errors.New(refusal.LimitExceeded())
	default:
		return errors.New(refusal.Unavailable())
	}
}

// ToMAC is an Ethernet address as the generated packages have it.
func ToMAC(mac MAC) flannel_backend_types.MacAddress {
	return flannel_backend_types.MacAddress{F0: mac[0], F1: mac[1], F2: mac[2], F3: mac[3], F4: mac[4], F5: mac[5]}
}

// FromMAC is an Ethernet address of the generated packages'.
func FromMAC(mac flannel_backend_types.MacAddress) MAC {
	return MAC{mac.F0, mac.F1, mac.F2, mac.F3, mac.F4, mac.F5}
}

// FromPairs is a list of the generated packages' as a map: the node's labels, say.
func FromPairs(pairs []wit_types.Tuple2[string, string]) map[string]string {
	values := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		values[pair.F0] = pair.F1
	}
	return values
}

// Done is the outcome of what answers nothing, as Go has it.
func Done(result wit_types.Result[wit_types.Unit, flannel_backend_types.Error]) error {
	_, err := Answer(result)
	return err
}

// Answer is a result of the generated packages as Go has it.
func Answer[T any](result wit_types.Result[T, flannel_backend_types.Error]) (T, error) {
	if result.IsErr() {
		var none T
		return none, ToError(result.Err())
	}
	return result.Ok(), nil
}

func option[T, U any](option wit_types.Option[T], convert func(T) U) U {
	if option.IsNone() {
		var none U
		return none
	}
	return convert(option.Some())
}

func fromPrefix4(p flannel_backend_types.Ipv4Prefix) netip.Prefix {
	return netip.PrefixFrom(fromOctets(p.Address), int(p.Length))
}

func fromPrefix6(p flannel_backend_types.Ipv6Prefix) netip.Prefix {
	return netip.PrefixFrom(fromGroups(p.Address), int(p.Length))
}

func same(text string) string { return text }

// FromLease is a lease of the generated packages' in Go's own types.
func FromLease(lease flannel_backend_types.Lease) Lease {
	return Lease{
		IPv4Subnet:    option(lease.Ipv4Subnet, fromPrefix4),
		IPv6Subnet:    option(lease.Ipv6Subnet, fromPrefix6),
		PublicIPv4:    option(lease.PublicIpv4, fromOctets),
		PublicIPv6:    option(lease.PublicIpv6, fromGroups),
		BackendType:   lease.BackendType,
		BackendData:   option(lease.BackendData, same),
		BackendV6Data: option(lease.BackendV6Data, same),
	}
}

// FromNode is a node of the generated packages' in Go's own types.
func FromNode(node flannel_backend_types.Node) Node {
	return Node{
		External:    node.External.Name,
		ExternalMTU: node.External.Mtu,
		IPv4:        option(node.External.Ipv4, fromOctets),
		IPv6:        option(node.External.Ipv6, fromGroups),
		PublicIPv4:  option(node.PublicIpv4, fromOctets),
		PublicIPv6:  option(node.PublicIpv6, fromGroups),
		IPv4Network: option(node.Ipv4Network, fromPrefix4),
		IPv6Network: option(node.Ipv6Network, fromPrefix6),
	}
}
