/* worker/serve.h: answers the Open Inference Protocol over HTTP/1.1, HTTP/2 and gRPC from a repository. Does.
 * Thread: the loop's. */
#ifndef SLUICE_WORKER_SERVE_H
#define SLUICE_WORKER_SERVE_H

#include "net/server.h"
#include "worker/batches.h"

struct serve {
    struct api api;
    struct batches batches;
    int64_t held, most; // bytes that requests hold, and may
    bool draining;
    struct wheel_timer watch_timer; // set while a health Watch is open
};

extern const struct http_server_ops serve_ops; // ctx: the struct serve

void serve_init(struct serve *s, struct loop *l, struct repository *r);
void serve_deinit(struct serve *s); // idle
bool serve_idle(const struct serve *s);

#endif
