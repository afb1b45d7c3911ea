#include "infer/failure.h"
#include <stdarg.h>
#include <stdio.h>

static const char no_memory_text[] = "out of memory: the reason could not be kept";

static struct failure keep_text(struct block_owner *o, enum status status, const char *ours,
                                struct view words)
{
    size_t n = strlen(ours);
    struct block *b = block_new(o, n + words.n + 1);
    if (!b)
        return (struct failure){.status = status, .text = no_memory_text};
    char *text = (char *)b->data;
    memcpy(text, ours, n);
    if (words.n > 0)
        memcpy(text + n, words.p, words.n);
    text_clean(text, n + words.n);
    return (struct failure){.status = status, .text = text, .block = b};
}

struct failure failure_format(struct block_owner *o, enum status status, const char *format, ...)
{
    char text[ERROR_TEXT];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0)
        n = 0;
    return keep_text(o, status, "",
                     view_of(text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1));
}

struct failure failure_quote(struct block_owner *o, enum status status, const char *ours,
                             struct view words)
{
    return keep_text(o, status, ours,
                     view_of(words.p, words.n < FAILURE_WORDS ? words.n : FAILURE_WORDS));
}
