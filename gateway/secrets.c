#include "gateway/secrets.h"

#include <sys/prctl.h>

void secrets_guard(const struct config *c)
{
#ifndef SLUICE_ASAN // the leak checker must be allowed to look
    if (c->core_dumps)
        prctl(PR_SET_DUMPABLE, 1);
    else if (config_names_secrets(c))
        prctl(PR_SET_DUMPABLE, 0);
#else
    (void)c;
#endif
}
