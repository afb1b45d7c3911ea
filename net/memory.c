#include "net/memory.h"

#include <stdio.h>
#include <unistd.h>

int64_t memory_total(void)
{
    int64_t bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "re");
    long long max;
    if (f) {
        if (fscanf(f, "%lld", &max) == 1 && max > 0 && max < bytes)
            bytes = max;
        fclose(f);
    }
    return bytes;
}
