/* api/feedback.h: POST /sluice/v1/feedback, a reward that a client posts of an answer that it had: a small JSON object.
 * Thinks. Memory: views into the body, or the exchange's arena. */
#ifndef SLUICE_API_FEEDBACK_H
#define SLUICE_API_FEEDBACK_H

#include "api/api.h"

#define FEEDBACK_TEXT 256  // bytes of one text
#define FEEDBACK_MOST 1e12 // of a value, either way

struct api_feedback {
    struct view request_id, key; // one of the two; the other is empty
    struct view experiment, name;
    double value; // finite
};

// {"experiment", "name", "value", and "request_id" or "key"}, and nothing else. False: e names what is wrong.
bool feedback_read(struct arena *a, struct view body, struct api_feedback *out, struct error *e);
// {"experiment", "variant", "name"}: whose it was counted as.
bool feedback_write(struct buffer *out, const struct api_feedback *f, struct view variant);

#endif
