import unittest

from flannel_backend.options import DEPTH, Refused, boolean, number, options, read, text


class Options(unittest.TestCase):
    def test_a_number_is_found_by_its_name_in_any_case_and_may_be_missing(self):
        for text, found in [
            ("{}", 1500),
            ('{"MTU":null}', 1500),
            ('{"mtu":1280,"Other":{"MTU":[1]}}', 1280),
            ('{"M\\u0054U":1401}', 1401),
        ]:
            self.assertEqual(number(options(text), "MTU", 1280, 65535, 1500), found)

    def test_what_is_wrong_is_named_with_what_would_be_right(self):
        for wrong in ['"1400"', "1279", "65536", "-1", "1400.5", "true", "[]", "99999999999999999999"]:
            with self.assertRaises(Refused) as refused:
                number(options(f'{{"MTU":{wrong}}}'), "MTU", 1280, 65535, 1500)
            self.assertEqual(str(refused.exception), f"MTU: {wrong} is not a whole number from 1280 to 65535")
        for wrong in ["", "{", "[1]", "null", "nul"]:
            with self.assertRaises(Refused):
                options(wrong)

    def test_texts_and_truth_are_what_they_are_and_nothing_else(self):
        given = options('{"Zone":"a","GBP":true,"Off":false,"None":null}')
        self.assertEqual([text(given, name) for name in ["zone", "None", "Other"]], ["a", None, None])
        self.assertEqual([boolean(given, name, True) for name in ["gbp", "Off", "None"]], [True, False, True])
        for read_as, said in [(lambda: text(given, "GBP"), "GBP: true is not a text in quotes"),
                              (lambda: boolean(given, "Zone", False), 'Zone: "a" is neither true nor false')]:
            with self.assertRaises(Refused) as refused:
                read_as()
            self.assertEqual(str(refused.exception), said)

    def test_of_a_name_that_comes_twice_the_last_counts(self):
        self.assertEqual(options('{"VNI":1,"vni":2}'), {"vni": 2})
        self.assertEqual(options('{"VNI":1,"vni":null}'), {})

    def test_what_is_nested_too_deeply_is_refused_before_it_is_read(self):
        nested = lambda deep: '{"a":' * (deep // 2) + "[" * (deep - deep // 2)
        closed = lambda deep: nested(deep) + "]" * (deep - deep // 2) + "}" * (deep // 2)
        read(closed(DEPTH))
        # Brackets in texts are none, nor are those that are not in each other.
        read('["' + "[" * 1000 + '\\"{"]')
        read("[" + "[]," * 1000 + "0]")
        for text in [closed(DEPTH + 1), closed(30_000), nested(30_000), '"' + "[" * 1000]:
            with self.assertRaises(Refused):
                read(text)


if __name__ == "__main__":
    unittest.main()
