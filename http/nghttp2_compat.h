/* http/nghttp2_compat.h: the option that only newer nghttp2 has (and that Debian 12 has back-ported).
 * Asked for at run time, so that one build serves both: the only place that knows. */
#ifndef SLUICE_HTTP_NGHTTP2_COMPAT_H
#define SLUICE_HTTP_NGHTTP2_COMPAT_H

#include <nghttp2/nghttp2.h>

extern void nghttp2_option_set_max_continuations(nghttp2_option *, size_t) __attribute__((weak));

#define COMPAT_ERR_TOO_MANY_CONTINUATIONS (-905) // NGHTTP2_ERR_..., which older headers do not know

static inline void compat_max_continuations(nghttp2_option *o, size_t n)
{
    if (nghttp2_option_set_max_continuations)
        nghttp2_option_set_max_continuations(o, n);
}

#endif
