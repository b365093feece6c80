#include "text.h"

#include <string.h>

void append(text_t *text, const void *bytes, size_t length) {
    size_t room = sizeof text->bytes - text->length;
    size_t taken = length < room ? length : room;
    memcpy(text->bytes + text->length, bytes, taken);
    text->length += taken;
}

void append_text(text_t *text, const char *more) {
    append(text, more, strlen(more));
}

void append_number(text_t *text, uint32_t number, unsigned base) {
    char digits[10];
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    append(text, digits + at, sizeof digits - at);
}

void append_address(text_t *text, const flannel_backend_types_ip_address_t *address) {
    if (address->tag == FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV4) {
        const uint8_t *octets = (const uint8_t *)&address->val.ipv4;
        for (int i = 0; i < 4; i++) {
            append_text(text, i > 0 ? "." : "");
            append_number(text, octets[i], 10);
        }
    } else {
        const uint16_t *groups = (const uint16_t *)&address->val.ipv6;
        for (int i = 0; i < 8; i++) {
            append_text(text, i > 0 ? ":" : "");
            append_number(text, groups[i], 16);
        }
    }
}

void append_mac(text_t *text, const flannel_backend_types_mac_address_t *mac) {
    const uint8_t *octets = (const uint8_t *)mac;
    for (int i = 0; i < 6; i++) {
        append_text(text, i > 0 ? ":" : "");
        append_number(text, octets[i] >> 4, 16);
        append_number(text, octets[i] & 15, 16);
    }
}

void answer(plugin_string_t *string, const text_t *text) {
    plugin_string_dup_n(string, text->bytes, text->length);
}

bool is_text(const plugin_string_t *string, const char *text) {
    return string->len == strlen(text) && memcmp(string->ptr, text, string->len) == 0;
}

// A few words of a value are enough to find it; no character is cut in two.
static void append_value(text_t *text, json_t value) {
    size_t shown = value.length < 100 ? value.length : 100;
    while (shown < value.length && (value.bytes[shown] & 0xc0) == 0x80) {
        shown--;
    }
    append(text, value.bytes, shown);
}

bool option_number(json_t options, const char *name, uint32_t least, uint32_t most, uint32_t *number, text_t *error) {
    json_t value = json_member(options, name);
    uint32_t read;
    if (value.bytes == NULL) {
        return true;
    }
    if (json_number(value, &read) && read >= least && read <= most) {
        *number = read;
        return true;
    }
    append_text(error, name);
    append_text(error, ": ");
    append_value(error, value);
    append_text(error, " is not a whole number from ");
    append_number(error, least, 10);
    append_text(error, " to ");
    append_number(error, most, 10);
    return false;
}

// The value of a hexadecimal digit; 16 of what is none.
static unsigned digit(char character) {
    if (character >= '0' && character <= '9') {
        return (unsigned)(character - '0');
    }
    char lower = character | 32;
    return lower >= 'a' && lower <= 'f' ? (unsigned)(lower - 'a' + 10) : 16;
}

bool option_mac(json_t options, const char *name, flannel_backend_types_mac_address_t *mac, text_t *error) {
    json_t value = json_member(options, name);
    if (value.bytes == NULL) {
        append_text(error, "there is no ");
        append_text(error, name);
        return false;
    }
    char text[18];
    bool is_one = json_string(value, text, sizeof text) && strlen(text) == 17 && (text[2] == ':' || text[2] == '-');
    for (int i = 0; is_one && i < 6; i++) {
        unsigned high = digit(text[3 * i]), low = digit(text[3 * i + 1]);
        is_one = high < 16 && low < 16 && (i == 5 || text[3 * i + 2] == text[2]);
        ((uint8_t *)mac)[i] = (uint8_t)(high << 4 | low);
    }
    if (!is_one) {
        append_text(error, name);
        append_text(error, ": ");
        append_value(error, value);
        append_text(error, " is no Ethernet address; one looks like 9e:01:c5:3f:00:0b");
    }
    return is_one;
}
