/* gateway/explain.h: what became of one request: asks every loop whether it remembers it (gateway/past.h), and shows the
 * newest of that id. Does. Thread: main; each loop reads its own memory. */
#ifndef SLUICE_GATEWAY_EXPLAIN_H
#define SLUICE_GATEWAY_EXPLAIN_H

#include "http/http.h"

#define EXPLAIN_PATH                                                                               \
    "/v1/requests/" // and behind it the id, its bytes escaped where a path wants it

void explain_page(struct exchange *ex, void *gateway); // answers a little later

#endif
