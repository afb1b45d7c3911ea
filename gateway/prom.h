/* gateway/prom.h: writes the Prometheus text format, version 0.0.4
 * (prometheus/docs content/docs/instrumenting/exposition_formats.md). A family's samples stand
 * together: prom_family, then its samples. Thread: any, one buffer each. */
#ifndef SLUICE_GATEWAY_PROM_H
#define SLUICE_GATEWAY_PROM_H

#include "base/buffer.h"
#include "base/hist.h"
#include "base/view.h"
#include <stdint.h>

struct prom_label {
    const char *name;
    struct view value; // escaped by the writer
};
#define PROM_LABEL(n, v) ((struct prom_label){(n), (v)})

struct prom {
    struct buffer *out;
    const char *family; // of the samples that follow
    bool failed;        // out of memory: the page is cut
};

void prom_init(struct prom *p, struct buffer *out);
// type: "counter", "gauge", "histogram". name without _bucket/_sum/_count.
void prom_family(struct prom *p, const char *name, const char *type, const char *help);
void prom_count(struct prom *p, const struct prom_label *labels, unsigned n, uint64_t value);
void prom_value(struct prom *p, const struct prom_label *labels, unsigned n, double value);
// Buckets of latencies in seconds from a histogram of microseconds (per_unit 1e6), or of rows (1).
// bounds: ascending upper edges in the histogram's own unit; +Inf is added.
void prom_hist(struct prom *p, const struct prom_label *labels, unsigned n, const struct hist *h,
               const uint64_t *bounds, unsigned n_bounds, double per_unit);

#endif
