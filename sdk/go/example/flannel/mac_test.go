package flannel

import "testing"

func TestAnEthernetAddressIsReadInEachFormThatThereIs(t *testing.T) {
	for _, text := range []string{"9e:01:c5:3f:00:0b", "9E-01-C5-3F-00-0B", "9e01.c53f.000b"} {
		if mac, err := ParseMAC(text); err != nil || mac.String() != "9e:01:c5:3f:00:0b" {
			t.Error(text, mac, err)
		}
	}
}

func TestWhatIsNoEthernetAddressIsRefusedWithWhatOneLooksLike(t *testing.T) {
	for _, text := range []string{"", "x", "9e:01:c5:3f:00", "9e:01:c5:3f:00:0b:", "9e:01:c5-3f:00:0b", "9e01c53f000b", "9e:01:c5:3f:00:0g", "9e0:1:c5:3f:00:0b"} {
		mac, err := ParseMAC(text)
		if err == nil || mac != (MAC{}) {
			t.Error(text, mac)
		}
	}
	if _, err := ParseMAC("x"); err.Error() != `"x" is no Ethernet address; one looks like 9e:01:c5:3f:00:0b` {
		t.Error(err)
	}
}
