/* gateway/pins.h: the levels that operators have set, each for a while and with a reason: a list, and the file that it is
 * kept in. The file is written new, synced and renamed, so that it is whole whenever the machine stops; what is wrong in
 * one is said and the rest is not taken. Does (one file). Thread: the main thread. */
#ifndef SLUICE_GATEWAY_PINS_H
#define SLUICE_GATEWAY_PINS_H

#include "base/json.h"
#include <stdbool.h>
#include <stdint.h>

#define PINS_MOST 1025 // a model each, and the instance
#define PIN_NAME 128
#define PIN_WHY 160
#define PIN_MOST_S (30 * 86400)
#define PINS_ERROR 160

struct pin {
    char model[PIN_NAME + 1]; // "": the instance
    uint8_t level;
    uint64_t until_us; // wall clock
    char why[PIN_WHY + 1];
    struct pin *next;
};

struct pins {
    struct pin *first;
    unsigned n;
};

struct pin *pins_find(const struct pins *p, struct view model); // "": the instance's. NULL: none
// One more, or that model's is this one. False: there are as many as there may be, or memory is out.
bool pins_set(struct pins *p, const struct pin *pin);
bool pins_clear(struct pins *p, struct view model); // false: there was none
void pins_free(struct pins *p);
void pin_show(struct json_writer *w, const struct pin *pin);

// A list of objects with members model (none: the instance), level, until_ms, why: dir/pins.json. A file that is not there has none. False: why (then the list has what stands before).
bool pins_load(struct pins *p, const char *dir, char why[PINS_ERROR]);
bool pins_save(const struct pins *p, const char *dir, char why[PINS_ERROR]); // makes dir

#endif
