/* router/creation.h: an experiment that an operator has created while everything runs, as it is kept and shared: the text of its
 * section, and who said so. Two comments before the text have what is not in it, so that the whole is still what could stand
 * in gateway.conf:
 *
 *   # sluice 1 NAME MARK AT_US draft|start own|shared WHO
 *   # WHY
 *   experiment "NAME" { ... }
 *
 * Thinks: what the text says is config's (config_add_experiment). Memory: the text is the creation's own. Thread: any, one at
 * a time. */
#ifndef SLUICE_ROUTER_CREATION_H
#define SLUICE_ROUTER_CREATION_H

#include "router/trial_state.h"

#define CREATION_TEXT (64u * 1024)            // bytes of a section's text
#define CREATION_BYTES (CREATION_TEXT + 1024) // and of the comments before it

struct creation {
    char name[TRIAL_NAME + 1]; // as its text has it
    uint64_t mark;             // which it is: another one of that name has another. Not 0
    uint64_t at_us;            // wall clock of whoever created it
    bool start;                // it runs of itself; else it is a draft
    bool shared;               // the store that instances share has had it: this is a copy
    char who[TRIAL_WHO + 1], why[TRIAL_WHY + 1];
    struct buffer text;
};

void creation_init(struct creation *c);
void creation_deinit(struct creation *c);
// Appended. False: out of memory.
bool creation_write(struct buffer *out, const struct creation *c);
// One that is initialised and empty: whole, or not: then wrong, printable, and it is of no use. Of the text only the length is looked at.
bool creation_read(struct creation *out, struct view bytes, char wrong[TRIAL_WRONG]);
// < 0: a comes first. All who have the same creations have them in one order, so that of two that exclude each other the
// same one is kept out.
int creation_compare(const struct creation *a, const struct creation *b);

#endif
