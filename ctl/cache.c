#include "ctl/cache.h"

#include <stdio.h>

bool cache_check_flush(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    if (!o->more[1])
        return true;
    snprintf(why, OPTIONS_ERROR, "cache flush: expected one model at most, got \"%.80s\" too",
             o->more[1]);
    return false;
}

json_t *cache_wish_flush(const struct ctl_options *o)
{
    return o->more[0] ? json_pack("{s:s}", "model", o->more[0]) : NULL;
}
