/* Any bytes as the body of a reward: it is refused with words, or it is whole: its value is finite and bounded, its texts are
 * somebody's, and what is answered of it is JSON. */
#include "api/feedback.h"
#include "base/check.h"
#include "base/json.h"
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct api_feedback *f)
{
    struct buffer out;
    struct json_reader r;
    enum json_token t;
    invariant(isfinite(f->value) && fabs(f->value) <= FEEDBACK_MOST);
    invariant(f->experiment.n > 0 && f->experiment.n <= FEEDBACK_TEXT);
    invariant(f->name.n > 0 && f->name.n <= FEEDBACK_TEXT);
    invariant((f->key.n > 0) != (f->request_id.n > 0));
    buffer_init(&out);
    invariant(feedback_write(&out, f, f->name));
    json_read(&r, buffer_view(&out));
    while ((t = json_next(&r)) != JSON_END)
        invariant(t != JSON_ERROR);
    buffer_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct api_feedback f;
    struct error e = {0};
    arena_init(&arena, 4096);
    if (feedback_read(&arena, view_of((const char *)data, size), &f, &e))
        look(&f);
    else
        invariant(e.status == STATUS_BAD_REQUEST && e.text[0]);
    arena_deinit(&arena);
    return 0;
}
