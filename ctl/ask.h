/* ctl/ask.h: one request to an admin listener (libcurl). Does; blocks, for timeout_ms at most. One thread.
 * Nothing of the environment is followed: no proxy, no .netrc, no redirect, so that the token goes where it was
 * meant to go and nowhere else. */
#ifndef SLUICE_CTL_ASK_H
#define SLUICE_CTL_ASK_H

#include "base/buffer.h"
#include <signal.h>
#include <stdbool.h>

#define ASK_ERROR 512
#define ASK_MOST_BYTES ((size_t)64 << 20) // of an answer

struct ask {
    const char *address; // as options.h has it, checked there
    const char *token;   // NULL: none is shown
    const char *ca_file; // https: PEM of those who may vouch for it; NULL: the system's
    long timeout_ms;     // for all of it
};

enum ask_end {
    ASK_ANSWERED, // whole: *status and the body
    ASK_AWAY,     // nobody takes a connection there
    ASK_SILENT // a connection and no answer, or none that is HTTP; or no certificate to be trusted
};

// Once a process, before any ask. False: out of memory.
bool ask_init(void);
void ask_deinit(void);
// path: "/status". body: NULL: GET; else POST of this JSON, or of nothing when it is "". answer is filled anew.
// Not ASK_ANSWERED: `why` names the address and the reason.
enum ask_end ask(const struct ask *a, const char *path, const char *body, long *status,
                 struct buffer *answer, char why[ASK_ERROR]);

#define ASK_SILENCE_MS 45000 // a stream of events brings a comment every 15 seconds

struct ask_flow {                               // an answer of events that goes on
    const char *last_id;                        // of the last one that was seen; NULL: none
    bool (*take)(void *ctx, struct view bytes); // as they come; false: enough
    // NULL, or called ten times a second and when something has come from the terminal; false: enough.
    bool (*turn)(void *ctx);
    void *ctx;
    const volatile sig_atomic_t *enough; // set by a signal: nobody wants more
    // out
    long status;
    bool flowed;          // 200, and events: all went to take; else `answer` has it
    bool whole;           // it ended as an answer ends
    struct buffer answer; // the caller's, from buffer_init to buffer_deinit
};
// GET path. timeout_ms is for the head of the answer; then it may last. ASK_ANSWERED: flowed and not whole: `why` says
// why it broke off.
enum ask_end ask_flow(const struct ask *a, const char *path, struct ask_flow *f,
                      char why[ASK_ERROR]);

#endif
