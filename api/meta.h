/* api/meta.h: what is said of every answer, as header fields and as OIP response parameters. Thinks.
 *
 *   header                                       response parameter
 *   sluice-model: NAME;version=V                 (model_name, model_version of the answer)
 *   sluice-source: model|cache|stale|default     "sluice-source"
 *   sluice-fallback: NAME                        "sluice-fallback"
 *   sluice-attempts: NAME;timeout;dur=200, …     "sluice-attempts"
 *   sluice-degradation: 0..4                     "sluice-degradation"
 *   sluice-experiment: NAME/VARIANT              "sluice-experiment"
 *   sluice-batch: ROWS;reason=full               "sluice-batch"
 *   age: SECONDS                                 "age_s"
 *   server-timing: parse;dur=0.012, queue;dur=…  "queue_us", "compute_us"
 *   x-request-id: …
 */
#ifndef SLUICE_API_META_H
#define SLUICE_API_META_H

#include "api/api.h"

#define META_HEADERS 10
#define META_PARAMS 9
#define META_NAME_MAX 160 // bytes of one name in a value; longer ones are cut
#define META_TEXT 1536

struct meta_fields {
    struct http_header headers[META_HEADERS];
    struct param params[META_PARAMS];
    unsigned n_headers, n_params;
    char text[META_TEXT]; // what the values point into
};

// m: NULL: nothing. Values point into f and m.
void meta_write(struct meta_fields *f, const struct answer_meta *m);

#endif
