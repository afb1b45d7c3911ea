/* ctl/creation.h: `sluicectl experiment create` and `delete`: the text of a section, from a file or made of options, and what is
 * asked for then. Does: it reads the file. One thread. */
#ifndef SLUICE_CTL_CREATION_H
#define SLUICE_CTL_CREATION_H

#include "base/buffer.h"
#include "ctl/options.h"
#include <jansson.h>

#define CREATION_TEXT (64u * 1024) // bytes of a text

// Of create: FILE, or - for standard input; or NAME with --model, --variant and perhaps --key. False: `why` says what is wrong.
bool creation_check(const struct ctl_options *o, char why[OPTIONS_ERROR]);
// The section that the options say; what was checked. False: out of memory.
bool creation_text(const struct ctl_options *o, struct buffer *out);
// The body of the POST, of what was checked. NULL: the file cannot be read, and `why`.
json_t *creation_load(const struct ctl_options *o, char why[OPTIONS_ERROR]);
json_t *creation_wish_delete(const struct ctl_options *o);
// As words.h has it: of an answer to delete.
bool words_of_deletion(const json_t *page, struct buffer *out);

#endif
