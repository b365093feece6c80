// A small reader of JSON: for the options of the network config's Backend, and for what peers publish, which is a stranger's input. It reads
// where the text is, and takes no memory.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A value where it is in the text; without bytes, none.
typedef struct {
    const char *bytes;
    size_t length;
} json_t;

// The whole of a text, without the space around it; none if that is not one JSON value.
json_t json_read(const char *text, size_t length);

bool json_is_object(json_t value);

// A member of an object, by its name without regard to case, as upstream reads them; the last one of several. None if it is absent or null.
json_t json_member(json_t object, const char *name);

// A whole number without fraction and exponent; false if it is something else, or larger than 32 bits.
bool json_number(json_t value, uint32_t *number);

bool json_boolean(json_t value, bool *answer);

// Writes a string, with its escapes resolved, and a zero behind it; false if it is something else, or does not fit.
bool json_string(json_t value, char *to, size_t size);

#ifdef __cplusplus
}
#endif

#endif
