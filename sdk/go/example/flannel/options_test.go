package flannel

import "testing"

func options(t *testing.T, text string) Options {
	t.Helper()
	options, err := ParseOptions(text)
	if err != nil {
		t.Fatal(err)
	}
	return options
}

func TestNamesMatchWithoutRegardToCase(t *testing.T) {
	number, err := options(t, `{"vNi": 7}`).Number("VNI", 0, 10, 1)
	if number != 7 || err != nil {
		t.Error(number, err)
	}
}

func TestAnAbsentAndANullOptionHaveNoValue(t *testing.T) {
	for _, text := range []string{`{}`, `{"MTU": null}`} {
		if number, err := options(t, text).Number("MTU", 0, 10, 5); number != 5 || err != nil {
			t.Error(text, number, err)
		}
	}
}

func TestOfANameThatComesTwiceTheLastCounts(t *testing.T) {
	for text, right := range map[string]uint32{`{"VNI": 1, "vni": 2}`: 2, `{"vni": 2, "VNI": 1}`: 1, `{"VNI": 1, "vni": null}`: 7} {
		if number, err := options(t, text).Number("VNI", 0, 10, 7); number != right || err != nil {
			t.Error(text, number, err)
		}
	}
}

func TestAnErrorNamesOptionValueAndWhatWouldBeRight(t *testing.T) {
	options := options(t, `{"VNI": 16777216, "GBP": "yes", "Port": -1, "Half": 1.5, "Name": 5}`)
	for _, number := range []string{"VNI", "Port", "Half", "Name", "GBP"} {
		if _, err := options.Number(number, 6, 16777215, 0); err == nil {
			t.Error(number)
		}
	}
	_, err := options.Number("VNI", 0, 16777215, 0)
	if err.Error() != "VNI: 16777216 is not a whole number from 0 to 16777215" {
		t.Error(err)
	}
	if _, err = options.Boolean("GBP", false); err.Error() != `GBP: "yes" is neither true nor false` {
		t.Error(err)
	}
	if _, err = options.Text("Name", ""); err.Error() != "Name: 5 is not a text in quotes" {
		t.Error(err)
	}
}

func TestWhatIsNoObjectIsRefused(t *testing.T) {
	for _, text := range []string{"", "[]", "7", "{", "null", "{} {}", `{"a":1`, `{"a":}`} {
		if _, err := ParseOptions(text); err == nil {
			t.Error(text)
		}
	}
}
