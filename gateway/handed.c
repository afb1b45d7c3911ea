#include "gateway/handed.h"

#include "base/mem.h"
#include <stdio.h>
#include <unistd.h>

static void close_all(const int *fds, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
}

void handed_drop(struct handed *h)
{
    for (unsigned i = 0; i < h->n; i++) {
        close_all(h->listeners[i]->fds, h->listeners[i]->n_fds);
        mem_free(h->listeners[i]);
    }
    mem_free(h->listeners);
    *h = (struct handed){0};
}

// The next section's, or the last one's, of which more comes. NULL: not in order.
static struct handed_listener *place(struct handed *h, const struct boot_listen *said)
{
    unsigned section = said->word.place;
    if (h->n > 0 && section == h->n - 1 && h->listeners[section]->id == said->sockets)
        return h->listeners[section];
    if (section != h->n)
        return NULL;
    if (h->n == h->room) {
        unsigned room = h->room ? 2 * h->room : 8;
        struct handed_listener **more = mem_realloc(h->listeners, room * sizeof(*more));
        if (!more)
            return NULL;
        h->listeners = more;
        h->room = room;
    }
    struct handed_listener *l = h->listeners[h->n] = mem_zalloc(sizeof(*l));
    if (!l)
        return NULL;
    h->n++;
    l->id = said->sockets;
    snprintf(l->address, sizeof(l->address), "%s", said->address);
    return l;
}

void handed_add(struct handed *h, const struct boot_listen *said, const int *fds, unsigned n_fds)
{
    if (said->word.how == 1)
        handed_drop(h); // what was there belongs to an offer that never came
    struct handed_listener *l = h->broken ? NULL : place(h, said);
    if (!l || l->n_fds + n_fds > BOOT_MAX_LOOPS) {
        h->broken = true;
        close_all(fds, n_fds);
        return;
    }
    for (unsigned i = 0; i < n_fds; i++)
        l->fds[l->n_fds++] = fds[i];
}
