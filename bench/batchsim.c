/* bench/batchsim: the product's own batcher, policy and estimate in virtual time, beside Triton's rules.
 * Usage: batchsim [--small] [--data DIR]     prints tables, and what they demand; ends with 1 when that is missed
 * What is played and what stands where: bench/batchsim/batchsim.h. */
#include "bench/batchsim/batchsim.h"
#include <string.h>

int main(int argc, char **argv)
{
    bool small = false;
    const char *data = "../shared/data";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--small") == 0)
            small = true;
        else if (strcmp(argv[i], "--data") == 0 && i + 1 < argc)
            data = argv[++i];
    }
    if (small)
        size = (struct size){3000, 1e5, 600};
    traces_read(data);
    goodput_table(small);
    if (!small)
        goodput_demands();
    uneven_tables(small);
    closed_table(small);
    if (!small) {
        latency_table();
        lanes_table();
        wrong_table();
    }
    traces_free();
    return demands_missed() > 0;
}
