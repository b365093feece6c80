// The little of a C library that the plugin and its bindings use, so that it needs none, and imports nothing but what it asks for.
//
// Memory is given out in a row. When all of it has been freed, as it is after each call of the host's that frees what it was given, the
// row begins anew. What is to be kept from call to call is in static variables.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 65536
// Also the size of what stands before each block: its length.
#define ALIGNMENT 16

extern unsigned char __heap_base;

static uintptr_t next;
static size_t blocks;

void *malloc(size_t size) {
    if (blocks == 0) {
        next = ((uintptr_t)&__heap_base + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    }
    size_t end = __builtin_wasm_memory_size(0) * PAGE;
    if (size > SIZE_MAX - 2 * ALIGNMENT) {
        abort();
    }
    size_t taken = ALIGNMENT + ((size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1));
    if (taken > end - next) {
        size_t pages = (taken - (end - next) + PAGE - 1) / PAGE;
        if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) {
            abort();
        }
    }
    *(size_t *)next = size;
    void *block = (void *)(next + ALIGNMENT);
    next += taken;
    blocks++;
    return block;
}

void *calloc(size_t count, size_t size) {
    size_t whole;
    if (__builtin_mul_overflow(count, size, &whole)) {
        abort();
    }
    return memset(malloc(whole), 0, whole);
}

void *realloc(void *block, size_t size) {
    if (block == NULL) {
        return malloc(size);
    }
    size_t before = *(size_t *)((uintptr_t)block - ALIGNMENT);
    if (size <= before) {
        return block;
    }
    void *larger = memcpy(malloc(size), block, before);
    free(block);
    return larger;
}

void free(void *block) {
    if (block != NULL) {
        blocks--;
    }
}

void abort(void) {
    __builtin_trap();
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    unsigned char *target = to;
    const unsigned char *source = from;
    for (size_t i = 0; i < size; i++) {
        target[i] = source[i];
    }
    return to;
}

void *memset(void *to, int byte, size_t size) {
    unsigned char *target = to;
    for (size_t i = 0; i < size; i++) {
        target[i] = (unsigned char)byte;
    }
    return to;
}

int memcmp(const void *one, const void *other, size_t size) {
    const unsigned char *left = one, *right = other;
    for (size_t i = 0; i < size; i++) {
        if (left[i] != right[i]) {
            return left[i] - right[i];
        }
    }
    return 0;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}
