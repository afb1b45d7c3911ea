/* tests/conformance/contracts.h: what a doer owes the thinking rooms for each of their effects, written once
 * and watched wherever effects are run. The linker puts boundary.c around every function of the router that
 * takes effects (--wrap), so that the doer knows nothing of it: boundary.c sees each effect when it is wanted
 * and each input when it comes, and contracts.c judges. Two doers are watched: the simulator's world
 * (tests/unit/router_contracts.c) and the gateway with its loops and sockets (build/sluice-contracts, driven
 * by tests/integration/test_contracts.py). Each says how late it may be.
 *
 *   FX_POST      the message arrives once, at the loop that it names; of two loops in the order of posting
 *   FX_DISPATCH  the batch ends exactly once (desk_on_answer or desk_on_end)
 *   FX_CANCEL    it ends within doer.call_us, whatever its peer reads or says
 *   FX_PROBE     within doer.probe_us the worker answers, or is down for that desk
 *   FX_HANGS     what this loop has at that worker ends within doer.close_us, and none of it as lost by others
 *   FX_SETTLE    once for each infer, and then nothing of it but its release
 *   FX_RELEASE   once, after it has settled; the doer speaks of it no more
 *   FX_UNREF     of a block that is still there
 *   FX_WAKE      on_wake comes not before at_us and at most doer.wake_us later; the newest wish counts
 *   FX_STORE_GET desk_on_stored comes once, within doer.store_us
 *   turn         a desk that had an input decides within doer.turn_us
 *   alone        no input comes inside another, and each comes on its loop's own thread
 *
 * The first breach of a contract is kept in words; how often each was kept is counted, so that a test can
 * demand that it was put to the test. Thread: any (one lock). */
#ifndef SLUICE_TESTS_CONTRACTS_H
#define SLUICE_TESTS_CONTRACTS_H

#include "router/desk.h"
#include "router/flow.h"
#include <stdio.h>

enum contract {
    OWED_POST,
    OWED_DISPATCH,
    OWED_CANCEL,
    OWED_PROBE,
    OWED_HANGS,
    OWED_SETTLE,
    OWED_RELEASE,
    OWED_UNREF,
    OWED_WAKE,
    OWED_STORE,
    OWED_TURN,
    OWED_ALONE,
    CONTRACTS
};

struct contract_row {
    const char *name, *owed;
    uint64_t kept;
    char broken[200]; // "": never
};
extern struct contract_row contracts[CONTRACTS];

struct doer { // who runs the effects, and how late it may be
    const char *name;
    uint64_t turn_us, wake_us, call_us, probe_us, close_us, store_us;
    bool aborts; // at the first breach
};

void contracts_watch(const struct doer *d); // from now on; nothing is out
void contracts_on_stored(const struct store_ask *a);
void contracts_over(void);      // nothing may be out any more
void contracts_show(FILE *out); // one JSON line: how often each was kept

// ---- told by boundary.c ------------------------------------------------------------------------------
// A thinker is a flow or a desk.

// An input begins, on that loop. `desk`: whose it is; NULL: the flow's.
void contracts_on_input(unsigned loop, const struct desk *desk, uint64_t now_us);
// It is over, and has left these effects from `from` on.
void contracts_on_effects(unsigned loop, const void *thinker, const struct effects *fx,
                          unsigned from, uint64_t now_us);
void contracts_on_message(const struct msg *m, enum router_msg kind, unsigned loop);
void contracts_on_end(const struct batch *b, bool lost, bool ours);
void contracts_on_replica(const struct desk *d, uint32_t id,
                          const struct replica_facts *facts); // NULL: down
void contracts_on_wake(unsigned loop, const void *thinker, uint64_t now_us);
void contracts_on_decided(const struct desk *d);
void contracts_on_submit(const struct infer *in);
void contracts_on_gone(const struct infer *in);
void contracts_on_free(unsigned loop, const void *thinker);

#endif
