/* tests/unit/file.h: a whole file in memory. */
#ifndef SLUICE_TESTS_FILE_H
#define SLUICE_TESTS_FILE_H

#include "base/check.h"
#include "base/view.h"
#include <stdio.h>
#include <stdlib.h>

// Its bytes with a NUL behind them, malloc'ed; {NULL, 0}: it cannot be opened.
static inline struct view file_read(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return view_of(NULL, 0);
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(n + 1);
    invariant(data && fread(data, 1, n, f) == n);
    data[n] = '\0';
    fclose(f);
    return view_of(data, n);
}

static inline void file_free(struct view file)
{
    free((void *)file.p);
}

#endif
