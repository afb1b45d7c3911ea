/* config/keys.h: the one table of settings. A row says where a key stands, how its value is written,
 * its bounds and default, what it means, and where it lands. The reader, the defaults, the errors, and
 * docs/configuration.md are all made from it: a new key is a row here and its test.
 * Thinks. Constant; thread: any. */
#ifndef SLUICE_CONFIG_KEYS_H
#define SLUICE_CONFIG_KEYS_H

#include "base/buffer.h"
#include "base/view.h"
#include <stddef.h>
#include <stdint.h>

enum key_type {
    KEY_COUNT,     // whole number
    KEY_DURATION,  // stored in microseconds
    KEY_SIZE,      // stored in bytes
    KEY_SHARE,     // stored in millionths
    KEY_BOOL,      // true | false
    KEY_CHOICE,    // one of key.choices; stored as its index
    KEY_PATH,      // text that may not be empty; const char *
    KEY_LISTEN,    // struct config_address, numeric
    KEY_WORDS,     // list of texts: const char *const *, NULL-terminated; its count beside it
    KEY_COUNTS,    // list of whole numbers: const uint32_t *; its count beside it
    KEY_ADDRESSES, // list of workers' addresses: const struct config_address *; its count beside it
    KEY_REDIS,     // struct config_address of a Redis
    KEY_PEERS,     // list of "HOST:PORT": const struct config_address *; its count beside it
    KEY_TRAIT,     // struct config_trait
    KEY_SHARES, // a share, or a list of them: const uint32_t *, in millionths; its count beside it
    KEY_WORKERS, // title of a worker section, or list of them: const unsigned *, indices; their count beside it
};

enum section_id {
    SECTION_TOP,
    SECTION_LISTEN,
    SECTION_ADMIN,
    // Who inherits comes after whom: workers from the defaults, models from both.
    SECTION_DEFAULTS,
    SECTION_DEFAULTS_BATCH,
    SECTION_DEFAULTS_QUEUE,
    SECTION_DEFAULTS_DEGRADATION,
    SECTION_DEFAULTS_CACHE,
    SECTION_WORKER,
    SECTION_WORKER_BATCH,
    SECTION_WORKER_QUEUE,
    SECTION_WORKER_DEGRADATION,
    SECTION_WORKER_CACHE,
    SECTION_MODEL,
    SECTION_MODEL_BATCH,
    SECTION_MODEL_QUEUE,
    SECTION_MODEL_DEGRADATION,
    SECTION_MODEL_CACHE,
    SECTION_CACHE,
    SECTION_LIMITS,
    SECTION_LOG,
    SECTION_HEALTH,
    SECTION_STORE,
    SECTION_LAYER,
    SECTION_EXPERIMENT,
    SECTION_EXPERIMENT_TARGET,
    SECTION_EXPERIMENT_GUARD,
    SECTION_EXPERIMENT_RAMP,
    SECTION_EXPERIMENT_BANDIT,
    SECTION_EXPERIMENT_VARIANT,
    SECTION_EXPERIMENT_SHADOW,
    SECTION_KINDS
};

// A section with rules of models, and those within it, which stand behind it in the table.
#define CONFIG_RULE_SECTIONS 5
_Static_assert(SECTION_DEFAULTS_CACHE == SECTION_DEFAULTS + CONFIG_RULE_SECTIONS - 1 &&
                   SECTION_WORKER_CACHE == SECTION_WORKER + CONFIG_RULE_SECTIONS - 1 &&
                   SECTION_MODEL_CACHE == SECTION_MODEL + CONFIG_RULE_SECTIONS - 1,
               "they stand together");

enum key_reload {       // what a reload of the file does with another value
    RELOAD_TAKES,       // it is in force at once
    RELOAD_CONNECTIONS, // for connections that are made from then on
    RELOAD_RESTART      // refused: it wants a restart
};

struct config_section {
    const char *name;       // "" for the top of the file
    enum section_id parent; // SECTION_TOP is its own
    bool titled; // NAME "TITLE" { }: may stand many times, each title once where it stands
    enum key_reload reload; // titled: of a section that comes or goes
    const char *doc;        // one sentence
};

struct config_key {
    enum section_id section;
    const char *name;
    enum key_type type;
    uint64_t min, max; // of the stored value; of the number of elements for lists
    const char
        *standard; // the default as it would stand in the file; NULL: none (0, NULL, no elements)
    const char *choices; // KEY_CHOICE: "any|all"
    bool automatic;      // the word auto is a value too, stored as the member's largest number
    bool required;       // the section is refused without it
    enum key_reload reload;
    uint16_t offset;       // into the section's struct (see key_base in read.c)
    uint16_t size;         // of the member, for numbers
    uint16_t count_offset; // lists: the unsigned beside the pointer
    const char *doc;
};

extern const struct config_section config_sections[SECTION_KINDS];
extern const struct config_key config_keys[];
extern const unsigned config_key_count;

// The row of a key, or NULL.
const struct config_key *config_key_find(enum section_id section, struct view name);
// The section of this name below `parent`, or SECTION_KINDS.
enum section_id config_section_find(enum section_id parent, struct view name);
// The name of a key or section of this section that is nearest to what came (Damerau-Levenshtein, at
// most a third of its letters apart), or NULL when nothing is near.
const char *config_nearest(enum section_id section, struct view came);
bool config_key_is_list(const struct config_key *k);
// What a value of this key must look like, for messages and the documentation:
// "a duration from 1ms to 1h, such as \"2ms\"".
void config_key_expects(const struct config_key *k, char *out, size_t size);

// A value of this key as it would stand in a file, appended; base: the section's struct. false: out of memory.
struct config;
bool config_key_print(const struct config *c, const struct config_key *k, const void *base,
                      struct buffer *out);

// Appends the tables of docs/configuration.md (Markdown). false: out of memory.
bool config_key_document(struct buffer *out);

#endif
