/* base/printable.h: a message that quotes what strangers wrote (names, words of a file) stays one line of ASCII, whatever
 * stands there, on a terminal and in a log. Thinks. Thread: any. */
#ifndef SLUICE_BASE_PRINTABLE_H
#define SLUICE_BASE_PRINTABLE_H

// Each byte before the NUL that is not printable ASCII becomes '?'.
static inline void printable(char *text)
{
    for (; *text; text++)
        *text = *text < ' ' || *text > '~' ? '?' : *text;
}

#endif
