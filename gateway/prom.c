#include "gateway/prom.h"

#include "base/num.h"

static void put(struct prom *p, struct view v)
{
    if (!p->failed && !buffer_append(p->out, v.p, v.n))
        p->failed = true;
}

static void put_escaped(struct prom *p, struct view v)
{
    for (size_t i = 0; i < v.n; i++) {
        unsigned char c = (unsigned char)v.p[i];
        if (c == '\\' || c == '"')
            put(p, VIEW("\\"));
        if (c == '\n')
            put(p, VIEW("\\n"));
        else if (c < 0x20 || c == 0x7f)
            put(p, VIEW("?"));
        else
            put(p, view_of(&v.p[i], 1));
    }
}

static void put_labels(struct prom *p, const struct prom_label *labels, unsigned n, const char *le)
{
    if (n == 0 && !le)
        return;
    put(p, VIEW("{"));
    for (unsigned i = 0; i < n; i++) {
        put(p, view_str(labels[i].name));
        put(p, VIEW("=\""));
        put_escaped(p, labels[i].value);
        put(p, i + 1 < n || le ? VIEW("\",") : VIEW("\""));
    }
    if (le) {
        put(p, VIEW("le=\""));
        put(p, view_str(le));
        put(p, VIEW("\""));
    }
    put(p, VIEW("}"));
}

static void put_line(struct prom *p, const char *suffix, const struct prom_label *labels,
                     unsigned n, const char *le, struct view value)
{
    put(p, view_str(p->family));
    put(p, view_str(suffix));
    put_labels(p, labels, n, le);
    put(p, VIEW(" "));
    put(p, value);
    put(p, VIEW("\n"));
}

void prom_init(struct prom *p, struct buffer *out)
{
    *p = (struct prom){.out = out};
}

void prom_family(struct prom *p, const char *name, const char *type, const char *help)
{
    p->family = name;
    put(p, VIEW("# HELP "));
    put(p, view_str(name));
    put(p, VIEW(" "));
    put(p, view_str(help));
    put(p, VIEW("\n# TYPE "));
    put(p, view_str(name));
    put(p, VIEW(" "));
    put(p, view_str(type));
    put(p, VIEW("\n"));
}

void prom_count(struct prom *p, const struct prom_label *labels, unsigned n, uint64_t value)
{
    char text[32];
    put_line(p, "", labels, n, NULL, view_of(text, num_print_u64(text, value)));
}

void prom_value(struct prom *p, const struct prom_label *labels, unsigned n, double value)
{
    char text[32];
    put_line(p, "", labels, n, NULL, view_of(text, num_print_f64(text, value)));
}

void prom_hist(struct prom *p, const struct prom_label *labels, unsigned n, const struct hist *h,
               const uint64_t *bounds, unsigned n_bounds, double per_unit)
{
    char text[32], edge[33];
    // The writer goes on while we read: clamp so that the buckets never go down.
    uint64_t last = 0;
    for (unsigned i = 0; i < n_bounds; i++) {
        uint64_t count = hist_count_le(h, bounds[i]);
        last = count > last ? count : last;
        edge[num_print_f64(edge, (double)bounds[i] / per_unit)] = '\0';
        put_line(p, "_bucket", labels, n, edge, view_of(text, num_print_u64(text, last)));
    }
    uint64_t all = atomic_load_explicit(&h->count, memory_order_relaxed);
    all = all > last ? all : last;
    put_line(p, "_bucket", labels, n, "+Inf", view_of(text, num_print_u64(text, all)));
    double sum = (double)atomic_load_explicit(&h->sum, memory_order_relaxed) / per_unit;
    put_line(p, "_sum", labels, n, NULL, view_of(text, num_print_f64(text, sum)));
    put_line(p, "_count", labels, n, NULL, view_of(text, num_print_u64(text, all)));
}
