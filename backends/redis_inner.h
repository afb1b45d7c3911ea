/* backends/redis_inner.h: what the files of the Redis client know of one another. Private to them. */
#ifndef SLUICE_BACKENDS_REDIS_INNER_H
#define SLUICE_BACKENDS_REDIS_INNER_H

#include "backends/redis_line.h"
#include "backends/redis_words.h"

#define REDIS_NO_NODE 0xffu

struct redis_watch { // of Sentinels: one connection, to the one that answered last
    struct redis_line line;
    unsigned at;             // its place among the configured ones
    struct wheel_timer look; // ask again
    bool asked;              // a question is out
};

struct redis_map {              // of a Cluster
    uint8_t owner[REDIS_SLOTS]; // node, or REDIS_NO_NODE
    struct redis_line *node[REDIS_MAX_NODES];
    struct loop_call sweep; // frees those that own nothing any more
    struct wheel_timer look;
    bool asked, known; // a question is out; it was answered once
    unsigned next;     // whom to ask
};

struct redis_feed { // one connection, to the master or any node of a Cluster's
    struct redis_line line;
    const char *channel; // NULL: no subscription is wanted
    redis_feed_fn *fn;
    void *user;
    struct wheel_timer look; // is it alive?
    uint64_t heard_us;
    bool refused; // SUBSCRIBE was refused: tried again, after a pause
};

struct redis {
    struct loop *loop;
    const struct redis_config *config;
    struct redis_stats *stats;
    const struct redis_ops *ops;
    void *ctx;
    struct redis_line *line;  // REDIS_ALONE, REDIS_SENTINELS
    struct redis_watch watch; // REDIS_SENTINELS
    struct redis_map *map;    // REDIS_CLUSTER
    struct redis_feed feed;
    uint64_t no_writes_until_us;
    enum redis_state state;
    char why[LINE_WHY];
    struct loop_call tell; // its state is another one
};

// redis.c
extern const struct line_ops redis_line_ops; // of lines whose ctx is the client
// What all connections of the client have in common.
void redis_line_setup(struct redis *r, struct redis_line *n, const struct line_ops *ops,
                      const struct addr *a);
struct redis_line *redis_line_new(struct redis *r,
                                  const struct addr *a); // DOWN. NULL: out of memory
void redis_line_free(struct redis_line *n);
void redis_look(struct redis *r,
                const char *why); // a line's state is another one: the client's may be
// The client's own command over a line that is up. False: not sent.
bool redis_tell(struct redis *r, struct redis_line *n, const struct view *words, unsigned count,
                redis_done_fn *done);

// redis_sentinel.c
void sentinel_start(struct redis *r);
void sentinel_free(struct redis *r);
void sentinel_ask(struct redis *r); // now, not at its time

// redis_cluster.c
bool cluster_start(struct redis *r); // false: out of memory
void cluster_free(struct redis *r);
struct redis_line *cluster_line(struct redis *r,
                                uint16_t slot); // whose slot it is, UP; NULL: nobody
// The server says who else has the slot: the line to it, or NULL: it is not up yet.
struct redis_line *cluster_turn(struct redis *r, const struct redis_line *from,
                                const struct redis_turn *turn, bool moved);
void cluster_ask(struct redis *r); // whose slots are whose
void cluster_on_down(struct redis *r);
unsigned cluster_servers(const struct redis *r, uint16_t slots[REDIS_MAX_NODES]);

// redis_feed.c
void feed_look(struct redis *r); // whom it can listen to may be another one
void feed_free(struct redis *r);

#endif
