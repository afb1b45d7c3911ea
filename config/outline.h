/* config/outline.h: the first of two readings of gateway.conf. It knows the words and braces of the
 * libConfuse language and the table of keys, and finds with its line everything that is wrong with the
 * file's shape: stray characters, open strings and braces, unknown and doubled keys and sections,
 * lists where one value is due. libConfuse (the second reading, read.c) gives up at its first error,
 * lets unclosed sections and doubled keys pass, reads files (`include`) and the environment (`${X}`)
 * and recurses; it is handed only files whose outline is clean.
 * Thinks. Memory: arena of the caller. Thread: any. */
#ifndef SLUICE_CONFIG_OUTLINE_H
#define SLUICE_CONFIG_OUTLINE_H

#include "base/arena.h"
#include "config/config.h"
#include "config/keys.h"

#define OUTLINE_MAX_SECTIONS 4096u // sections in a file, all kinds together
#define OUTLINE_MAX_LIST 256u      // elements of a list
#define OUTLINE_MAX_TEXT 4096u     // bytes of one value

struct outline_mark {             // a key, or a section within a section, of one section
    const struct config_key *key; // NULL: a section
    enum section_id section;      // where the key stands; or the section itself
    unsigned line;                // and the column: a place, as config_error_add takes it
    struct outline_mark *next;    // in the order of the file
};

struct
    outline_section { // a section at the top of the file or a titled one within one, or the top itself
    enum section_id kind;
    struct view title; // into the text, without its quotes (names need no escapes); may be empty
    unsigned line;     // likewise
    struct outline_mark *marks, **marks_end;
    struct outline_section *inner,
        *last_inner; // titled sections within it, in the order of the file
    struct outline_section *next;
};

struct outline {
    struct outline_section top; // then, by .next, the sections in the order of the file
    unsigned section_count;
};

// wipe: as for lex_init. Adds what is wrong to errors (config_error_add). true: nothing was; the outline is usable.
bool outline_read(struct view text, char *wipe, struct arena *a, struct outline *out,
                  struct config_errors *errors);
bool outline_has(const struct outline_section *s, const struct config_key *key);
// The place where this key of that section stands, else the section's own.
unsigned outline_line(const struct outline_section *s, const struct config_key *key);

// One more error at a place: a line, or one with its column, as an outline has them; 0: the text as a whole. Control bytes
// and what is not ASCII become '?'.
__attribute__((format(printf, 3, 4))) void
config_error_add(struct config_errors *errors, unsigned place, const char *format, ...);

#endif
