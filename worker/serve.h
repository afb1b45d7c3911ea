/* worker/serve.h: answers the Open Inference Protocol over HTTP/1.1, HTTP/2 and gRPC from a repository.
 * Requests of all clients share batches (a hundred gateways that each send two rows still fill one); a
 * batch goes as soon as one of those that compute has ended. Does. Thread: the loop's. */
#ifndef SLUICE_WORKER_SERVE_H
#define SLUICE_WORKER_SERVE_H

#include "api/api.h"
#include "net/server.h"
#include "worker/repository.h"

#define SERVE_DEADLINE_US 600000000 // of a request that names none: nobody waits for ever

struct serve {
    struct loop *loop;
    struct repository *repository;
    unsigned computing; // batches; at most as many as the model with the most has instances
    struct api api;
    struct served *turn; // whose queue is looked at first next time
    struct wheel_timer timer;
    uint64_t wake_us;          // when a batch may go, or who waits is looked at
    unsigned waiting, running; // requests
    int64_t held, most;        // octets that requests hold, and may
    bool draining;
};

extern const struct http_server_ops serve_ops; // ctx: the struct serve

void serve_init(struct serve *s, struct loop *l, struct repository *r);
void serve_deinit(struct serve *s);

#endif
