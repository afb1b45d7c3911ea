/* config/value.h: the words that values are written in: durations, sizes, shares, counts, addresses.
 * Each reader takes the whole view or nothing, has no locale and never rounds up. Thinks. Thread: any. */
#ifndef SLUICE_CONFIG_VALUE_H
#define SLUICE_CONFIG_VALUE_H

#include "base/arena.h"
#include "base/view.h"
#include "config/config.h"
#include <stdint.h>

enum value_result {
    VALUE_OK,
    VALUE_SYNTAX, // not of this kind
    VALUE_RANGE,  // does not fit 64 bits (or names a port above 65535)
    VALUE_MEMORY, // the arena could not grow
};

// "64": digits only.
enum value_result value_count(struct view v, uint64_t *out);
// "250us" "2ms" "1.5s" "10m" "24h" "7d", or a plain "0"; microseconds.
enum value_result value_duration(struct view v, uint64_t *us);
// "512" "512B" "64KiB" "64MiB" "2GiB" "1TiB", decimal "64kB" "64MB" "1GB"; bytes.
enum value_result value_size(struct view v, uint64_t *bytes);
// "2%" "12.5%" "100%"; millionths. At most 100 %.
enum value_result value_share(struct view v, uint64_t *ppm);
// "true" "on" "yes" / "false" "off" "no".
enum value_result value_bool(struct view v, uint64_t *out);
// An origin as browsers say it: SCHEME://HOST[:PORT], in lower case, without the scheme's own port. NULL, or what is
// wrong with it.
const char *value_origin(struct view v);
// Where we listen: "127.0.0.1:8080", "[::1]:8080", "unix:/run/sluice.sock". The host is numeric: a name
// could change under us between two starts.
enum value_result value_listen_address(struct view v, struct arena *a, struct config_address *out);
// Where a worker is: "grpc://host:8001", "grpcs://host:8001", "unix:/run/worker.sock".
enum value_result value_worker_address(struct view v, struct arena *a, struct config_address *out);
// Where a Redis is: "redis://host:6379/0", "rediss://[::1]:6379", "redis://host", "unix:/run/redis.sock".
enum value_result value_redis_address(struct view v, struct arena *a, struct config_address *out);
// "host:26379"
enum value_result value_peer_address(struct view v, struct arena *a, struct config_address *out);

// What a request says of who asks: "request-id", "api-key", "header:x-user-id", "cookie:uid", "parameter:user", "jwt:sub".
enum value_result value_trait(struct view v, struct arena *a, struct config_trait *out);

// The shortest exact form: "10s", "250ms", "64MiB", "500". out holds 32 bytes.
void value_print_duration(char out[32], uint64_t us);
void value_print_size(char out[32], uint64_t bytes);
void value_print_share(char out[32], uint64_t ppm);

#endif
