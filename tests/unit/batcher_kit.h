/* Tickets for the tests of the batcher. */
#ifndef SLUICE_TESTS_UNIT_BATCHER_KIT_H
#define SLUICE_TESTS_UNIT_BATCHER_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rand.h"
#include "batcher/batcher.h"

struct guest { // a ticket and what it lends
    struct infer_request request;
    struct ticket ticket;
};

static inline void guest_init(struct guest *g, uint32_t rows, uint64_t key, uint64_t deadline_us)
{
    *g = (struct guest){.request = {.rows = rows, .bytes = 10 * rows, .batch_key = {key, 7}}};
    g->ticket = (struct ticket){
        .request = &g->request, .key = {key, 7}, .deadline_us = deadline_us, .lane = 1};
}

static inline unsigned guest_index(const struct guest *all, const struct ticket *t)
{
    return (unsigned)(container_of(t, struct guest, ticket) - all);
}

#endif
