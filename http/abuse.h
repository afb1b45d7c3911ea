/* http/abuse.h: what a connection may do that costs us and brings it nothing. Each row is named after the attack
 * it answers. Two purses: one for frames that have no use, one for requests that are taken back.
 *
 * Who hedges, times out or leaves takes requests back too, and shares the connection with others. So resets are
 * weighed against what the connection may have open and what it has completed: all its streams eight times over in
 * one burst, all of them once a second for ever, and one more for each answer it has taken. Past that it takes no
 * new streams and live ones finish; only a peer that goes on as long again is cut. Thinks. */
#ifndef SLUICE_HTTP_ABUSE_H
#define SLUICE_HTTP_ABUSE_H

#include <stdbool.h>
#include <stdint.h>

enum abuse_kind {
    ABUSE_RESET,         // RST_STREAM from the peer: rapid reset, CVE-2023-44487
    ABUSE_LATE_STREAM,   // a stream that it opens after it was to open no more
    ABUSE_RESET_BY_US,   // made to reset by malformed frames: MadeYouReset, CVE-2025-8671
    ABUSE_EMPTY_DATA,    // empty DATA without END_STREAM: CVE-2019-9518
    ABUSE_PRIORITY,      // CVE-2019-9513
    ABUSE_PING,          // CVE-2019-9512
    ABUSE_SETTINGS,      // CVE-2019-9515
    ABUSE_WINDOW_UPDATE, // in floods; they are part of normal life, so they cost little
    ABUSE_BLOCK,         // a header block past its hard bound: CVE-2024-27316; no purse pays for it
    ABUSE_FLOOD,         // acknowledgements that are not read, CONTINUATION, rows of SETTINGS
    ABUSE_KINDS
};
extern const char *const abuse_name[ABUSE_KINDS]; // "resets", "pings", …

enum abuse_verdict {
    ABUSE_BORNE,
    ABUSE_NO_NEW,  // no new streams; live ones finish
    ABUSE_CUT,     // the connection ends
    ABUSE_WENT_ON, // likewise, after ABUSE_NO_NEW
    ABUSE_VERDICTS
};

#define ABUSE_REFILL_US 100000 // a point for frames comes back so often: ten a second
#define ABUSE_RESETS_A_STREAM 8

struct purse { // in sixteenths of a point
    uint32_t left, full;
    uint64_t refill_us; // a point comes back so often
    uint64_t refilled_us;
};

struct abuse {
    struct purse frames, resets;
    bool warned; // ABUSE_NO_NEW was said
};

// budget: points for frames, and for resets beside what max_streams gives.
void abuse_init(struct abuse *a, uint32_t budget, uint32_t max_streams, uint64_t now_us);
enum abuse_verdict abuse_pay(struct abuse *a, enum abuse_kind kind, uint64_t now_us);
// More than any purse pays for: ABUSE_CUT or ABUSE_WENT_ON.
enum abuse_verdict abuse_end(const struct abuse *a);
void abuse_answered(struct abuse *a); // an exchange came to its end: honest work earns a point

#endif
