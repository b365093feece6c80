package flannel

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// MAC is an Ethernet address, first octet on the wire first. (That of the package net would bring all of net along.)
type MAC [6]byte

// String writes it as 9e:01:c5:3f:00:0b.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// ParseMAC reads an Ethernet address as somebody has written it: 9e:01:c5:3f:00:0b, with - for :, or 9e01.c53f.000b.
func ParseMAC(text string) (MAC, error) {
	for _, form := range []struct {
		separator string
		digits    int
	}{{":", 2}, {"-", 2}, {".", 4}} {
		if mac, ok := parseMAC(strings.Split(text, form.separator), form.digits); ok {
			return mac, nil
		}
	}
	return MAC{}, fmt.Errorf("%q is no Ethernet address; one looks like 9e:01:c5:3f:00:0b", text)
}

func parseMAC(parts []string, digits int) (mac MAC, ok bool) {
	if len(parts) != 12/digits {
		return MAC{}, false
	}
	for i, part := range parts {
		if len(part) != digits {
			return MAC{}, false
		}
		if _, err := hex.Decode(mac[i*digits/2:], []byte(part)); err != nil {
			return MAC{}, false
		}
	}
	return mac, true
}
