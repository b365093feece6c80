// What the plugin has of <stdlib.h>; see runtime.c.
#ifndef STDLIB_H
#define STDLIB_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *block, size_t size);
void free(void *block);
__attribute__((noreturn)) void abort(void);

#ifdef __cplusplus
}
#endif

#endif
