#include "stages/common/breaker.h"

#include <errno.h>
#include <stdlib.h>

int breaker_init(struct breaker *b, uint32_t failures, uint64_t window_ns, uint64_t open_ns) {
        uint64_t *times = calloc(failures, sizeof(*times));

        if (!times)
                return -ENOMEM;
        *b = (struct breaker){.failed_at = times,
                        .max_failures = failures,
                        .window_ns = window_ns,
                        .open_ns = open_ns};
        return 0;
}

void breaker_close(struct breaker *b) {
        free(b->failed_at);
        *b = (struct breaker){0};
}

bool breaker_allow(struct breaker *b, uint64_t now) {
        if (b->state == BREAKER_CLOSED)
                return true;
        if (b->state == BREAKER_OPEN && now - b->opened_at >= b->open_ns)
                b->state = BREAKER_HALF_OPEN;
        if (b->state == BREAKER_OPEN || b->probing)
                return false;
        b->probing = true;
        return true;
}

void breaker_success(struct breaker *b) {
        if (b->state == BREAKER_OPEN)
                return; /* an old request that went well; the newer ones did not */
        b->state = BREAKER_CLOSED;
        b->probing = false;
        b->n_failures = 0;
}

static void breaker_open(struct breaker *b, uint64_t now) {
        b->state = BREAKER_OPEN;
        b->probing = false;
        b->opened_at = now;
        b->n_failures = 0;
}

bool breaker_failure(struct breaker *b, uint64_t now) {
        if (b->state == BREAKER_OPEN)
                return false;
        if (b->state == BREAKER_HALF_OPEN) {
                breaker_open(b, now);
                return true;
        }
        b->failed_at[b->next] = now;
        b->next = (b->next + 1) % b->max_failures;
        if (b->n_failures < b->max_failures)
                b->n_failures++;
        /* Full: `next` is the oldest of them. */
        if (b->n_failures < b->max_failures || now - b->failed_at[b->next] > b->window_ns)
                return false;
        breaker_open(b, now);
        return true;
}

void breaker_forget(struct breaker *b) {
        b->probing = false;
}

uint64_t breaker_wait_ns(const struct breaker *b, uint64_t now) {
        if (b->state != BREAKER_OPEN || now - b->opened_at >= b->open_ns)
                return 0;
        return b->open_ns - (now - b->opened_at);
}
