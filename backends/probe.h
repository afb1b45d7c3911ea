/* backends/probe.h: does a server live? When to ask it, when an answer is overdue, when it hangs. Knows nothing
 * of what is asked or over what: the doer (backends/worker.c, or the simulator) sends a question when it is
 * handed PROBE_ASK, reports any answer, and keeps one timer at due_us. Thinks. One for each connection.
 *
 *              ┌───────────── probe_on_answer ◄──────────────────┐
 *              ▼                                                  │
 *   OFF ──► WAITING ── due_us, or probe_on_suspect: ASK ──────► OUT ──┐ due_us: failed, ASK again
 *    ▲  probe_start                                               │ ◄─┘
 *    └── probe_stop (from anywhere) ◄── `failures` in a row: HANGS ┘
 *
 * P1  A question fails by our clock alone: whether it could be sent, or its cancel is confirmed, plays no part.
 * P2  A server that is silent is found within timeout x failures of the first question: a failed question is
 *     followed by the next at once.
 * P3  Bytes that came meanwhile prolong a question (its answer may wait behind others on a slow line), at most
 *     PROBE_WAITS times: window updates come from a server whose transport lives and that answers nothing.
 * P4  A timer that fires late by more than half the time-out says that *we* stood still (SIGSTOP, no CPU), and
 *     what the server sent meanwhile may lie unread: the question is given its time again, once.
 * P5  Any answer, whatever it says and whichever question it belongs to, is a sign of life: failures are 0.
 * P6  At most one question is out. Suspicion while one is out changes nothing.
 * P7  HANGS comes once; after it, and after probe_stop, nothing until the next probe_start.
 * P8  Not periodic: asks on suspicion, and goes on while failures > 0; else it is idle (due_us never comes). */
#ifndef SLUICE_BACKENDS_PROBE_H
#define SLUICE_BACKENDS_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#define PROBE_WAITS 8 // times its own time-out that a question is waited for while bytes come

struct probe_rules {
    uint64_t interval_us; // from an answer to the next question
    uint64_t timeout_us;  // > 0
    unsigned failures;    // in a row: it hangs. 0 counts as 1
};

enum probe_act {
    PROBE_NOTHING,
    PROBE_ASK,  // send the question now; if that is not possible, there is nothing else to do (P1)
    PROBE_HANGS // replace the connection
};

struct probe {
    struct probe_rules rules;
    bool on;           // between probe_start and probe_stop or HANGS
    bool periodic;     // asks by itself; else on suspicion only
    bool out;          // a question is out
    bool late;         // it was given its time again (P4)
    unsigned failures; // in a row
    unsigned waits;    // times that this question was prolonged (P3)
    uint64_t due_us;   // out: it has failed then; else: the next is asked then; UINT64_MAX: never
    uint64_t heard;    // bytes that had come from the server when we looked last
};

// Its connection is up. Periodic: the first question is due at once.
void probe_start(struct probe *p, const struct probe_rules *rules, bool periodic, uint64_t now_us);
void probe_stop(struct probe *p); // it is gone
// Others for the questions that are asked from now on; the next one comes no later than they say.
void probe_set_rules(struct probe *p, const struct probe_rules *rules, uint64_t now_us);
// At due_us or later; before it, nothing happens. heard_bytes: all that ever came, growing.
enum probe_act probe_on_time(struct probe *p, uint64_t heard_bytes, uint64_t now_us);
// Something made us doubt the server.
enum probe_act probe_on_suspect(struct probe *p, uint64_t heard_bytes, uint64_t now_us);
void probe_on_answer(struct probe *p, uint64_t now_us);

#endif
