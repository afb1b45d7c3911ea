#include "base/token.h"

static int is_white(char c) // the C library's depends on the locale
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

const char *token_trim(char *text, size_t n)
{
    while (n > 0 && is_white(text[n - 1]))
        n--;
    text[n] = '\0';
    if (n < 16)
        return "shorter than 16 bytes: too easy to guess";
    for (size_t i = 0; i < n; i++) {
        // A NUL above all: what follows it would not be compared.
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return "holds a control character, which no client could send";
    }
    return NULL;
}
