#include "json.h"

#include <string.h>

// Deeper ones are refused, before they take the stack.
#define DEPTH 128

// What has not been read yet.
typedef struct {
    const char *at;
    const char *end;
} rest_t;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static char peek(const rest_t *rest) {
    return rest->at < rest->end ? *rest->at : '\0';
}

static bool take(rest_t *rest, char c) {
    bool is_there = rest->at < rest->end && *rest->at == c;
    rest->at += is_there;
    return is_there;
}

static void skip_space(rest_t *rest) {
    while (peek(rest) == ' ' || peek(rest) == '\t' || peek(rest) == '\n' || peek(rest) == '\r') {
        rest->at++;
    }
}

// The value of four hexadecimal digits, or -1.
static int hex(rest_t *rest) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = peek(rest), low = c | 0x20;
        int digit = is_digit(c) ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
        rest->at++;
    }
    return value;
}

// One character of a string, behind which `rest` is then, in UTF-8; 0 bytes: it is none.
static size_t character(rest_t *rest, char to[4]) {
    if (rest->at == rest->end || (unsigned char)*rest->at < ' ' || *rest->at == '"') {
        return 0;
    }
    to[0] = *rest->at++;
    if (to[0] != '\\') {
        return 1;
    }
    char escape = peek(rest);
    rest->at += rest->at < rest->end;
    switch (escape) {
    case '"': case '\\': case '/': to[0] = escape; return 1;
    case 'b': to[0] = '\b'; return 1;
    case 'f': to[0] = '\f'; return 1;
    case 'n': to[0] = '\n'; return 1;
    case 'r': to[0] = '\r'; return 1;
    case 't': to[0] = '\t'; return 1;
    case 'u': break;
    default: return 0;
    }
    int32_t point = hex(rest);
    if (point >= 0xd800 && point < 0xdc00) {
        int low = take(rest, '\\') && take(rest, 'u') ? hex(rest) : -1;
        point = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00) : -1;
    } else if (point >= 0xdc00 && point < 0xe000) {
        point = -1;
    }
    if (point < 0) {
        return 0;
    }
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length - 1; i > 0; i--) {
        to[i] = (char)(0x80 | (point & 0x3f));
        point >>= 6;
    }
    to[0] = (char)(first[length] | point);
    return length;
}

static bool skip_string(rest_t *rest) {
    char ignored[4];
    if (!take(rest, '"')) {
        return false;
    }
    while (peek(rest) != '"') {
        if (character(rest, ignored) == 0) {
            return false;
        }
    }
    return take(rest, '"');
}

static bool skip_digits(rest_t *rest) {
    const char *begin = rest->at;
    while (is_digit(peek(rest))) {
        rest->at++;
    }
    return rest->at > begin;
}

static bool skip_number(rest_t *rest) {
    take(rest, '-');
    if (!take(rest, '0') && !skip_digits(rest)) {
        return false;
    }
    if (take(rest, '.') && !skip_digits(rest)) {
        return false;
    }
    if (take(rest, 'e') || take(rest, 'E')) {
        if (!take(rest, '+')) {
            take(rest, '-');
        }
        return skip_digits(rest);
    }
    return true;
}

static bool skip_word(rest_t *rest, const char *word) {
    size_t length = strlen(word);
    bool is_there = (size_t)(rest->end - rest->at) >= length && memcmp(rest->at, word, length) == 0;
    rest->at += is_there ? length : 0;
    return is_there;
}

static bool skip_value(rest_t *rest, int depth);

static bool skip_members(rest_t *rest, char end, int depth) {
    rest->at++;
    skip_space(rest);
    if (take(rest, end)) {
        return true;
    }
    do {
        skip_space(rest);
        if (end == '}') {
            if (!skip_string(rest)) {
                return false;
            }
            skip_space(rest);
            if (!take(rest, ':')) {
                return false;
            }
        }
        if (!skip_value(rest, depth - 1)) {
            return false;
        }
        skip_space(rest);
    } while (take(rest, ','));
    return take(rest, end);
}

static bool skip_value(rest_t *rest, int depth) {
    skip_space(rest);
    if (depth == 0) {
        return false;
    }
    switch (peek(rest)) {
    case '{': return skip_members(rest, '}', depth);
    case '[': return skip_members(rest, ']', depth);
    case '"': return skip_string(rest);
    case 't': return skip_word(rest, "true");
    case 'f': return skip_word(rest, "false");
    case 'n': return skip_word(rest, "null");
    default: return skip_number(rest);
    }
}

json_t json_read(const char *text, size_t length) {
    rest_t rest = {text, text + length};
    skip_space(&rest);
    json_t value = {.bytes = rest.at};
    if (!skip_value(&rest, DEPTH)) {
        return (json_t){0};
    }
    value.length = (size_t)(rest.at - value.bytes);
    skip_space(&rest);
    return rest.at == rest.end ? value : (json_t){0};
}

bool json_is_object(json_t value) {
    return value.length > 0 && value.bytes[0] == '{';
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

// Whether the string that comes next is this name; `rest` is behind the string then.
static bool is_name(rest_t *rest, const char *name) {
    char next[4];
    bool is_same = true;
    take(rest, '"');
    while (peek(rest) != '"') {
        size_t length = character(rest, next);
        for (size_t i = 0; i < length && is_same; i++, name++) {
            is_same = *name != '\0' && lower(*name) == lower(next[i]);
        }
    }
    take(rest, '"');
    return is_same && *name == '\0';
}

json_t json_member(json_t object, const char *name) {
    json_t found = {0};
    if (!json_is_object(object)) {
        return found;
    }
    rest_t rest = {object.bytes + 1, object.bytes + object.length};
    skip_space(&rest);
    while (peek(&rest) == '"') {
        bool is_it = is_name(&rest, name);
        skip_space(&rest);
        take(&rest, ':');
        skip_space(&rest);
        json_t value = {.bytes = rest.at};
        // It has been read before.
        (void)skip_value(&rest, DEPTH);
        value.length = (size_t)(rest.at - value.bytes);
        found = is_it ? value : found;
        skip_space(&rest);
        take(&rest, ',');
        skip_space(&rest);
    }
    bool is_null = found.length == 4 && memcmp(found.bytes, "null", 4) == 0;
    return is_null ? (json_t){0} : found;
}

bool json_number(json_t value, uint32_t *number) {
    uint64_t sum = 0;
    for (size_t i = 0; i < value.length; i++) {
        if (!is_digit(value.bytes[i])) {
            return false;
        }
        sum = sum * 10 + (uint64_t)(value.bytes[i] - '0');
        if (sum > UINT32_MAX) {
            return false;
        }
    }
    *number = (uint32_t)sum;
    return value.length > 0;
}

bool json_boolean(json_t value, bool *answer) {
    *answer = value.length == 4 && memcmp(value.bytes, "true", 4) == 0;
    return *answer || (value.length == 5 && memcmp(value.bytes, "false", 5) == 0);
}

bool json_string(json_t value, char *to, size_t size) {
    rest_t rest = {value.bytes, value.bytes + value.length};
    if (value.length == 0 || !take(&rest, '"')) {
        return false;
    }
    while (peek(&rest) != '"') {
        char next[4];
        size_t length = character(&rest, next);
        if (length == 0 || length >= size) {
            return false;
        }
        memcpy(to, next, length);
        to += length;
        size -= length;
    }
    if (size == 0) {
        return false;
    }
    *to = '\0';
    return true;
}
