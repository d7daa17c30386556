#include "stages/common/sandbox.h"

#include <errno.h>
#include <limits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "stages/common/stage.h"

/* A sanitizer's shadow memory is private memory, terabytes of it. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int limit_core(void) {
        const struct rlimit none = {0, 0};
        return setrlimit(RLIMIT_CORE, &none) == -1 ? -errno : 0;
}

static int limit_memory(uint64_t cap_bytes) {
        struct rlimit data;

        if (cap_bytes == 0 || SANITIZED)
                return 0;
        if (getrlimit(RLIMIT_DATA, &data) == -1)
                return -errno;
        if (cap_bytes > data.rlim_max)
                return 0; /* the operator's own limit is tighter */
        data.rlim_cur = data.rlim_max = cap_bytes;
        return setrlimit(RLIMIT_DATA, &data) == -1 ? -errno : 0;
}

int sandbox_close_above(int last) {
        return close_range((unsigned)last + 1, UINT_MAX, 0) == -1 ? -errno : 0;
}

int sandbox_enter(struct worker *w) {
        int r = limit_core();
        if (r == 0)
                r = limit_memory(w->settings->memory.worker_cap_bytes);
        if (r < 0)
                return r;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
                return -errno;
        return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 ? -errno : 0;
}
