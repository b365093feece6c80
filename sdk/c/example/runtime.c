// The little of a C library that the plugin and its bindings use, so that it needs none, and imports nothing but what it asks for.
//
// Blocks have sizes of powers of two. What is freed is kept for the next one of its size, so that memory is bounded by the most that
// was ever in use of each.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 65536
// Also the size of what stands before each block.
#define ALIGNMENT 16
#define SMALLEST 5
#define LARGEST 31

extern unsigned char __heap_base;

// Before each block in use, and in each that is free.
typedef struct free_block {
    // Its size is a power of two: which one.
    uint32_t order;
    struct free_block *next;
} block_t;

static block_t *free_blocks[LARGEST + 1];
// Where nothing has been given out yet.
static uintptr_t fresh;

static block_t *from_fresh(uint32_t order) {
    if (fresh == 0) {
        fresh = ((uintptr_t)&__heap_base + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    }
    size_t size = (size_t)1 << order;
    size_t end = __builtin_wasm_memory_size(0) * PAGE;
    if (size > end - fresh) {
        size_t pages = (size - (end - fresh) + PAGE - 1) / PAGE;
        if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) {
            abort();
        }
    }
    block_t *block = (block_t *)fresh;
    fresh += size;
    return block;
}

void *malloc(size_t size) {
    uint32_t order = SMALLEST;
    while (order <= LARGEST && ((size_t)1 << order) - ALIGNMENT < size) {
        order++;
    }
    if (order > LARGEST) {
        abort();
    }
    block_t *block = free_blocks[order];
    if (block != NULL) {
        free_blocks[order] = block->next;
    } else {
        block = from_fresh(order);
    }
    block->order = order;
    return (void *)((uintptr_t)block + ALIGNMENT);
}

void *calloc(size_t count, size_t size) {
    size_t whole;
    if (__builtin_mul_overflow(count, size, &whole)) {
        abort();
    }
    return memset(malloc(whole), 0, whole);
}

static block_t *block_of(void *memory) {
    return (block_t *)((uintptr_t)memory - ALIGNMENT);
}

void *realloc(void *memory, size_t size) {
    if (memory == NULL) {
        return malloc(size);
    }
    size_t room = ((size_t)1 << block_of(memory)->order) - ALIGNMENT;
    if (size <= room) {
        return memory;
    }
    void *larger = memcpy(malloc(size), memory, room);
    free(memory);
    return larger;
}

void free(void *memory) {
    if (memory != NULL) {
        block_t *block = block_of(memory);
        block->next = free_blocks[block->order];
        free_blocks[block->order] = block;
    }
}

void abort(void) {
    __builtin_trap();
}

void *memcpy(void *to, const void *from, size_t size) {
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
