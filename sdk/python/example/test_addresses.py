import unittest
from types import SimpleNamespace

from flannel_backend.addresses import mac, mac_text, text
from flannel_backend.options import Refused


class Addresses(unittest.TestCase):
    def test_addresses_of_both_families_are_written_as_people_do(self):
        v6 = (0x2001, 0xDB8, 0, 0, 0, 0, 0, 9)
        self.assertEqual(text(SimpleNamespace(value=(10, 5, 3, 0))), "10.5.3.0")
        self.assertEqual(text(SimpleNamespace(value=v6)), "2001:db8::9")

    def test_an_ethernet_address_is_read_in_each_form_that_there_is_and_in_no_other(self):
        for written in ["9e:01:c5:3f:00:0b", "9E-01-C5-3F-00-0B", "9e01.c53f.000b"]:
            self.assertEqual(mac_text(mac(written)), "9e:01:c5:3f:00:0b")
        for wrong in ["", "x", "9e:01:c5:3f:00", "9e:01:c5:3f:00:0b:", "9e:01:c5-3f:00:0b", "9e01c53f000b", "9e:01:c5:3f:00:0g"]:
            with self.assertRaises(Refused) as refused:
                mac(wrong)
            self.assertIn("no Ethernet address", str(refused.exception))


if __name__ == "__main__":
    unittest.main()
