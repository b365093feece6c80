// Texts for the host and for people: put together, and read with care.
#ifndef TEXT_H
#define TEXT_H

#include "json.h"
#include "plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A text that is being put together; what does not fit is left out.
typedef struct {
    char bytes[256];
    size_t length;
} text_t;

void append(text_t *text, const void *bytes, size_t length);

void append_text(text_t *text, const char *more);

void append_number(text_t *text, uint32_t number, unsigned base);

// An address as people write it.
void append_address(text_t *text, const flannel_backend_types_ip_address_t *address);

// An Ethernet address: 9e:01:c5:3f:00:0b.
void append_mac(text_t *text, const flannel_backend_types_mac_address_t *mac);

// A text that is handed to the host, which frees it.
void answer(plugin_string_t *string, const text_t *text);

bool is_text(const plugin_string_t *string, const char *text);

// A whole number within bounds, if the option is there, else what it is already. What is wrong with it is added to `error`, with its name
// and with what would be right.
bool option_number(json_t options, const char *name, uint32_t least, uint32_t most, uint32_t *number, text_t *error);

// An Ethernet address that somebody has written, with `:` or `-` between its octets. What is wrong with it is added to `error`.
bool option_mac(json_t options, const char *name, flannel_backend_types_mac_address_t *mac, text_t *error);

#endif
