package flannel

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Options are those of the network config's Backend. Names match without regard to case; what is absent or null has no value. Each
// error names the option and the value, and says what would be right.
type Options struct {
	// By their names in lower case.
	values map[string]json.RawMessage
}

// ParseOptions reads a JSON object. Of a name that comes twice, the last counts.
func ParseOptions(text string) (Options, error) {
	var written map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &written); err != nil || written == nil {
		return Options{}, fmt.Errorf(`%s is not a JSON object such as {"Key": 1}`, text)
	}
	values := make(map[string]json.RawMessage, len(written))
	for name, value := range written {
		values[strings.ToLower(name)] = value
	}
	if len(values) < len(written) {
		// Names that differ in their case alone: a map does not know which of them was the last.
		return inOrder(text, values), nil
	}
	return Options{values}, nil
}

// Reads an object again, which is one, member by member.
func inOrder(text string, values map[string]json.RawMessage) Options {
	reader := json.NewDecoder(strings.NewReader(text))
	for _, err := reader.Token(); err == nil && reader.More(); {
		name, nameErr := reader.Token()
		var value json.RawMessage
		if err = errors.Join(nameErr, reader.Decode(&value)); err == nil {
			values[strings.ToLower(name.(string))] = value
		}
	}
	return Options{values}
}

func (o Options) get(name string) (json.RawMessage, bool) {
	value, found := o.values[strings.ToLower(name)]
	return value, found && string(value) != "null"
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
