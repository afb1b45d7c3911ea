/* Any bytes behind "#" as an experiment that was created; any bytes as a field of sums ("FIELD VALUE", where no "{" is first): it is taken, and then written and taken as the same, or
 * nothing is. Else any bytes as the record of a live experiment, as a store or a file may have it. What is taken is sound: it is written and
 * read as the same again, its buckets are all somebody's, and each change of it is sound, too. */
#include "router/trial_state.h"
#include "base/check.h"
#include "router/creation.h"
#include "router/trial_sums.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct trial_state *s)
{
    struct trial_state again;
    struct buffer once, twice;
    char wrong[TRIAL_WRONG];
    buffer_init(&once);
    buffer_init(&twice);
    invariant(trial_state_write(&once, s) && buffer_len(&once) <= TRIAL_TEXT);
    invariant(trial_state_read(&again, buffer_view(&once), wrong));
    invariant(trial_state_write(&twice, &again));
    invariant(view_eq(buffer_view(&once), buffer_view(&twice)));
    invariant(trial_state_order(s, &again) == TRIAL_SAME);
    buffer_deinit(&once);
    buffer_deinit(&twice);
}

static void look_at_field(struct view text)
{
    const char *space = memchr(text.p, ' ', text.n);
    struct trial_sums sums = {0}, nothing = {0};
    trial_sums_reward(&sums, VIEW("r"));
    trial_sums_reward(&nothing, VIEW("r"));
    if (!space)
        return;
    struct view field = view_of(text.p, (size_t)(space - text.p));
    bool taken = trial_sums_take(&sums, field, view_of(space + 1, text.n - field.n - 1));
    invariant(taken || memcmp(&sums, &nothing, sizeof(sums)) == 0);
    if (!taken || memcmp(&sums, &nothing, sizeof(sums)) == 0)
        return;
    struct buffer out;
    buffer_init(&out);
    invariant(trial_sums_write(&out, &sums));
    struct view again = buffer_view(&out);
    const char *middle = memchr(again.p, ' ', again.n);
    field = view_of(again.p, (size_t)(middle - again.p));
    invariant(trial_sums_take(&nothing, field, view_of(middle + 1, again.n - field.n - 1)));
    invariant(memcmp(&sums, &nothing, sizeof(sums)) == 0);
    buffer_deinit(&out);
}

static void look_at_creation(struct view bytes)
{
    struct creation c, again;
    struct buffer once, twice;
    char wrong[TRIAL_WRONG];
    creation_init(&c);
    creation_init(&again);
    buffer_init(&once);
    buffer_init(&twice);
    bool taken = creation_read(&c, bytes, wrong);
    invariant(taken == !wrong[0]);
    if (taken) {
        invariant(creation_write(&once, &c) && buffer_len(&once) <= CREATION_BYTES);
        invariant(creation_read(&again, buffer_view(&once), wrong));
        invariant(creation_write(&twice, &again));
        invariant(view_eq(buffer_view(&once), buffer_view(&twice)));
        invariant(creation_compare(&c, &again) == 0 && c.mark == again.mark && c.mark != 0);
    }
    creation_deinit(&c);
    creation_deinit(&again);
    buffer_deinit(&once);
    buffer_deinit(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '#') {
        look_at_creation(view_of(data, size));
        return 0;
    }
    if (size > 0 && data[0] != '{') {
        look_at_field(view_of(data, size));
        return 0;
    }
    static struct trial_state s, next;
    char wrong[TRIAL_WRONG];
    uint32_t weights[EXPERIMENT_VARIANTS] = {0};
    unsigned whole;
    if (!trial_state_read(&s, view_of(data, size), wrong)) {
        invariant(wrong[0] && strlen(wrong) < TRIAL_WRONG);
        return 0;
    }
    look(&s);
    weights[size % s.n_variants] = EXPERIMENT_WHOLE;
    for (unsigned verb = TRIAL_WEIGH; verb <= TRIAL_PROMOTE; verb++) {
        struct trial_change c = {.verb = (enum trial_verb)verb,
                                 .weights = weights,
                                 .variant = (unsigned)size % s.n_variants,
                                 .stamp = {size, 1, VIEW("a"), VIEW("b")}};
        next = s;
        if (trial_state_change(&next, &c, NULL))
            continue;
        trial_state_draws(&next, &whole);
        invariant(whole < next.n_variants &&
                  buckets_find(&next.buckets, (uint32_t)size) < next.n_variants);
        if (next.revision <= TRIAL_MOST)
            look(&next);
    }
    return 0;
}
