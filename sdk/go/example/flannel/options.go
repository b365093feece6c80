package flannel

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Options are those of the network config's Backend. Names match without regard to case; what is absent or null has no value. Each
// error names the option and the value, and says what would be right.
type Options struct {
	values map[string]json.RawMessage
}

// ParseOptions reads a JSON object.
func ParseOptions(text string) (Options, error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &values); err != nil || values == nil {
		return Options{}, fmt.Errorf(`%s is not a JSON object such as {"Key": 1}`, text)
	}
	return Options{values}, nil
}

func (o Options) get(name string) (json.RawMessage, bool) {
	for key, value := range o.values {
		if strings.EqualFold(key, name) && string(value) != "null" {
			return value, true
		}
	}
	return nil, false
}

// Number is a whole number within bounds; missing stands for one that is absent.
func (o Options) Number(name string, least, most, missing uint32) (uint32, error) {
	value, found := o.get(name)
	if !found {
		return missing, nil
	}
	var number uint32
	if err := json.Unmarshal(value, &number); err != nil || number < least || number > most {
		return 0, fmt.Errorf("%s: %s is not a whole number from %d to %d", name, value, least, most)
	}
	return number, nil
}

// Boolean is true or false; missing stands for one that is absent.
func (o Options) Boolean(name string, missing bool) (bool, error) {
	value, found := o.get(name)
	if !found {
		return missing, nil
	}
	var answer bool
	if err := json.Unmarshal(value, &answer); err != nil {
		return false, fmt.Errorf("%s: %s is neither true nor false", name, value)
	}
	return answer, nil
}

// Text is a string; missing stands for one that is absent.
func (o Options) Text(name, missing string) (string, error) {
	value, found := o.get(name)
	if !found {
		return missing, nil
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return "", fmt.Errorf("%s: %s is not a text in quotes", name, value)
	}
	return text, nil
}
