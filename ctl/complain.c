#include "ctl/complain.h"

#include "ctl/columns.h"
#include <stdarg.h>
#include <stdio.h>

enum ctl_exit complain(enum ctl_exit status, const char *format, ...)
{
    char line[8192];
    struct buffer clean; // it may quote what came
    va_list ap;
    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    buffer_init(&clean);
    if (columns_clean(&clean, view_str(line)))
        fprintf(stderr, "sluicectl: %.*s\n", VIEW_ARG(buffer_view(&clean)));
    buffer_deinit(&clean);
    return status;
}

static const char *hint_for(long status, const struct ask *a)
{
    if (status != 401)
        return "";
    return a->token ? "; the token that was shown is not its token"
                    : "; show it with --token-file, SLUICE_TOKEN_FILE or SLUICE_TOKEN";
}

// It said no. An admin listener says why as {"error": "..."}.
enum ctl_exit complain_refused(const struct ask *a, long status, const json_t *answer)
{
    const char *why = json_string_value(json_object_get(answer, "error"));
    if (!why)
        return complain(CTL_REFUSED, "%s: status %ld, and no reason: is that the admin address?",
                        a->address, status);
    return complain(CTL_REFUSED, "%s: refused (%ld): %s%s", a->address, status, why,
                    hint_for(status, a));
}

enum ctl_exit complain_unflowed(const struct ask *a, const struct ask_flow *f)
{
    struct view text = buffer_view(&f->answer);
    json_t *answer = json_loadb(text.n ? text.p : "", text.n, 0, NULL);
    enum ctl_exit end =
        f->status >= 200 && f->status <= 299
            ? complain(CTL_REFUSED, "%s: answered what is no stream of events", a->address)
            : complain_refused(a, f->status, answer);
    json_decref(answer);
    return end;
}
