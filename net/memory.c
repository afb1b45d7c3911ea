#include "net/memory.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096

static uint64_t limit_in(const char *root, const char *group, const char *file)
{
    char path[2 * PATH_BYTES];
    unsigned long long bytes;
    uint64_t limit = UINT64_MAX; // "max", or no such file
    if (snprintf(path, sizeof(path), "%s%s/%s", root, group, file) >= (int)sizeof(path))
        return limit;
    FILE *f = fopen(path, "re");
    if (!f)
        return limit;
    if (fscanf(f, "%llu", &bytes) == 1 && bytes > 0)
        limit = bytes;
    fclose(f);
    return limit;
}

// group and all above it. In a container the path may be the host's, of which nothing but the root is seen.
static uint64_t limit_upwards(const char *root, char *group, const char *file)
{
    uint64_t least = UINT64_MAX;
    for (;;) {
        uint64_t limit = limit_in(root, group, file);
        least = limit < least ? limit : least;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

uint64_t memory_allowed(uint64_t machine_bytes, const char *self, const char *root)
{
    char line[PATH_BYTES], root_v1[PATH_BYTES];
    uint64_t least = machine_bytes;
    FILE *f = fopen(self, "re");
    snprintf(root_v1, sizeof(root_v1), "%s/memory", root);
    while (f && fgets(line, sizeof(line), f)) { // NUMBER:CONTROLLERS:/PATH
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        uint64_t limit = UINT64_MAX;
        if (controllers[1] == '\0')
            limit = limit_upwards(root, group, "memory.max");
        else if (strcmp(controllers + 1, "memory") == 0)
            limit = limit_upwards(root_v1, group, "memory.limit_in_bytes");
        least = limit < least ? limit : least;
    }
    if (f)
        fclose(f);
    return least;
}

int64_t memory_total(void)
{
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    return (int64_t)memory_allowed(machine, "/proc/self/cgroup", "/sys/fs/cgroup");
}
