// What the contract's bindings, which are C, look like from C++: memory that is freed, texts, options.
#pragma once

#include "json.h"
#include "plugin.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

using Address = flannel_backend_types_ip_address_t;
using Mac = flannel_backend_types_mac_address_t;

// Frees an argument at the end of the function that it was handed to.
template <typename T> class Owned {
public:
    Owned(T *value, void (*release)(T *)) : value(value), release(release) {}
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned() { release(value); }

private:
    T *value;
    void (*release)(T *);
};

// A text that is being put together; what does not fit is left out.
class Text {
public:
    Text &add(const void *bytes, size_t size) {
        size_t room = sizeof text - length;
        size_t taken = size < room ? size : room;
        memcpy(text + length, bytes, taken);
        length += taken;
        return *this;
    }

    Text &add(const char *more) { return add(more, strlen(more)); }

    Text &add(unsigned number, unsigned base = 10) {
        char digits[10];
        size_t at = sizeof digits;
        do {
            digits[--at] = "0123456789abcdef"[number % base];
            number /= base;
        } while (number > 0);
        return add(digits + at, sizeof digits - at);
    }

    // An address as people write it.
    Text &add(const Address &address) {
        if (address.tag == FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV4) {
            auto octets = reinterpret_cast<const uint8_t *>(&address.val.ipv4);
            for (int i = 0; i < 4; i++) {
                add(i > 0 ? "." : "").add(octets[i]);
            }
        } else {
            auto groups = reinterpret_cast<const uint16_t *>(&address.val.ipv6);
            for (int i = 0; i < 8; i++) {
                add(i > 0 ? ":" : "").add(groups[i], 16);
            }
        }
        return *this;
    }

    // An Ethernet address: 9e:01:c5:3f:00:0b.
    Text &add(const Mac &mac) {
        auto octets = reinterpret_cast<const uint8_t *>(&mac);
        for (int i = 0; i < 6; i++) {
            add(i > 0 ? ":" : "").add(octets[i] >> 4u, 16).add(octets[i] & 15u, 16);
        }
        return *this;
    }

    // A few words of a value, which are enough to find it; no character is cut in two.
    Text &add(json_t value) {
        size_t shown = value.length < 100 ? value.length : 100;
        while (shown < value.length && (value.bytes[shown] & 0xc0) == 0x80) {
            shown--;
        }
        return add(value.bytes, shown);
    }

    // What is handed to the host, which frees it.
    void answer(plugin_string_t *string) const { plugin_string_dup_n(string, text, length); }

    // What the host looks at, and does not keep, as long as this text is there.
    plugin_string_t borrowed() { return {reinterpret_cast<uint8_t *>(text), length}; }

private:
    char text[256];
    size_t length = 0;
};

inline bool is_text(const plugin_string_t &string, const char *text) {
    return string.len == strlen(text) && memcmp(string.ptr, text, string.len) == 0;
}

// A whole number within bounds, if the option is there, else what it is already. What is wrong with it is added to `error`, with its name
// and with what would be right.
inline bool option_number(json_t options, const char *name, uint32_t least, uint32_t most, uint32_t &number, Text &error) {
    json_t value = json_member(options, name);
    uint32_t read;
    if (value.bytes == nullptr) {
        return true;
    }
    if (json_number(value, &read) && read >= least && read <= most) {
        number = read;
        return true;
    }
    error.add(name).add(": ").add(value).add(" is not a whole number from ").add(least).add(" to ").add(most);
    return false;
}

// An Ethernet address that somebody has written, with `:` or `-` between its octets. What is wrong with it is added to `error`.
inline bool option_mac(json_t options, const char *name, Mac &mac, Text &error) {
    json_t value = json_member(options, name);
    if (value.bytes == nullptr) {
        error.add("there is no ").add(name);
        return false;
    }
    auto digit = [](char character) -> unsigned {
        if (character >= '0' && character <= '9') {
            return unsigned(character - '0');
        }
        char lower = character | 32;
        return lower >= 'a' && lower <= 'f' ? unsigned(lower - 'a' + 10) : 16;
    };
    char text[18];
    bool is_one = json_string(value, text, sizeof text) && strlen(text) == 17 && (text[2] == ':' || text[2] == '-');
    for (int i = 0; is_one && i < 6; i++) {
        unsigned high = digit(text[3 * i]), low = digit(text[3 * i + 1]);
        is_one = high < 16 && low < 16 && (i == 5 || text[3 * i + 2] == text[2]);
        reinterpret_cast<uint8_t *>(&mac)[i] = uint8_t(high << 4 | low);
    }
    if (!is_one) {
        error.add(name).add(": ").add(value).add(" is no Ethernet address; one looks like 9e:01:c5:3f:00:0b");
    }
    return is_one;
}
