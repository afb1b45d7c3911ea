/* base/token.h: what may be a bearer token, for who asks for it and for who shows it. Thinks. Thread: any. */
#ifndef SLUICE_BASE_TOKEN_H
#define SLUICE_BASE_TOKEN_H

#include <stddef.h>

#define TOKEN_BYTES 256 // at most, without what is cut

// text[0 .. n), n <= TOKEN_BYTES, with room for a NUL behind: white space at the end is cut and the NUL set. Returns
// NULL, or why it can be none (constant text): too easy to guess, or what no header field can carry.
const char *token_trim(char *text, size_t n);

#endif
