/* ctl/token.h: the admin's token from a file that only those may read who may use it. Does. */
#ifndef SLUICE_CTL_TOKEN_H
#define SLUICE_CTL_TOKEN_H

#include "base/token.h"
#include <stdbool.h>

#define TOKEN_ERROR 256

// One line of at most TOKEN_BYTES, white space at the end cut. A file that others than its owner and its group may
// read, or than its owner may change, is refused, as a key's would be; a pipe is taken. False: `why` has the path
// and the reason, nothing of what it holds.
bool token_read(const char *path, char out[TOKEN_BYTES + 1], char why[TOKEN_ERROR]);
// The same of a text at hand. `name`: where it stands, for `why`.
bool token_take(const char *name, const char *text, char out[TOKEN_BYTES + 1],
                char why[TOKEN_ERROR]);

#endif
