#include "gateway/pages.h"

#include "gateway/metrics.h"
#include "gateway/show.h"

static void metrics(struct exchange *ex, void *ctx)
{
    struct buffer page;
    buffer_init(&page);
    bool ok = metrics_page(&page, ctx);
    admin_answer(ex, 200, VIEW("text/plain; version=0.0.4; charset=utf-8"), &page, !ok);
}

static void health(struct exchange *ex, void *ctx)
{
    struct buffer page;
    bool healthy = show_healthy(ctx);
    struct view said = healthy ? VIEW("{\"healthy\":true}") : VIEW("{\"healthy\":false}");
    buffer_init(&page);
    bool ok = buffer_append(&page, said.p, said.n);
    admin_answer(ex, healthy ? 200 : 503, VIEW("application/json"), &page, !ok);
}

const struct admin_page pages[PAGES] = {
    {"GET", "/metrics", ADMIN_OPEN, metrics},
    {"GET", "/healthz", ADMIN_OPEN, health},
    {"GET", "/status", ADMIN_TOKEN, show_page},
};
