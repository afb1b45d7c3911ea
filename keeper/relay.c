#include "keeper/relay.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

// It is lost before the one behind it.
static void drop_oldest(struct relay *r)
{
    uint32_t lost = r->kept[r->first++ % RELAY_KEPT].word.how + 1;
    r->kept[r->first % RELAY_KEPT].word.how += lost;
}

void relay_add(struct relay *r, const char *event, struct view line)
{
    if (r->next - r->first == RELAY_KEPT)
        drop_oldest(r);
    struct boot_said *s = &r->kept[r->next % RELAY_KEPT];
    size_t name = strlen(event) + 1;
    if (name + line.n + 1 > sizeof(s->text)) { // one that cannot be told whole is not told
        r->lost++;
        return;
    }
    s->word = (struct boot_word){.kind = BOOT_EVENT, .how = r->lost};
    r->lost = 0;
    memcpy(s->text, event, name);
    memcpy(s->text + name, line.p, line.n);
    s->text[name + line.n] = '\0';
    r->bytes[r->next++ % RELAY_KEPT] = offsetof(struct boot_said, text) + name + line.n + 1;
}

void relay_flush(struct relay *r, int fd)
{
    while (fd >= 0 && r->first < r->next) {
        unsigned i = r->first % RELAY_KEPT;
        if (send(fd, &r->kept[i], r->bytes[i], MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            return;
        r->first++;
    }
}
