#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/types.h>

#include "stages/common/worker.h"

/* A stack overflow leaves no room on the stack that overflowed. */
#define CRASH_STACK_BYTES 65536

static const struct worker *crashed;
static alignas(16) uint8_t crash_stack[CRASH_STACK_BYTES];

/* Whose request was at hand: the slab's slot, else the record named `active` in an input ring. */
static uint64_t record_at_hand(const struct worker *w) {
        const struct slab_shm *slab = w->slab_map;
        if (slab) {
                uint64_t active = atomic_load_explicit(&slab->active, memory_order_relaxed);
                if (active > 0 && active <= slab->n_slots) {
                        const struct slab_version *v = slab->slots[active - 1].v;
                        uint64_t a = atomic_load_explicit(&v[0].tag, memory_order_relaxed);
                        uint64_t b = atomic_load_explicit(&v[1].tag, memory_order_relaxed);
                        return v[b > a].req_id;
                }
        }
        for (uint32_t i = 0; i < w->n_in; i++) {
                const struct ring_rx *rx = &w->in[i].rx;
                if (rx->map.cons && atomic_load_explicit(&rx->map.cons->active,
                                                    memory_order_relaxed) != 0)
                        return rx->msg.req_id;
        }
        return 0;
}

static void on_crash(int signo, siginfo_t *info, void *context) {
        struct counters_shm *counters = crashed->counters;
        (void)context;

        if (counters) {
                atomic_store_explicit(&counters->crash_code, (uint64_t)(int64_t)info->si_code,
                                memory_order_relaxed);
                /* Only a signal that was sent has a sender; a fault has an address in its place. */
                pid_t sender = info->si_code <= 0 ? info->si_pid : 0;
                atomic_store_explicit(&counters->crash_pid, (uint64_t)sender, memory_order_relaxed);
                atomic_store_explicit(&counters->crash_record, record_at_hand(crashed),
                                memory_order_relaxed);
                /* Read by the supervisor once this process has been reaped: no order is needed. */
                atomic_store_explicit(
                                &counters->crash_signal, (uint64_t)signo, memory_order_relaxed);
        }
        /* SA_RESETHAND has put the default back; blocked until this handler returns. */
        raise(signo);
}

int crash_install(const struct worker *w) {
        static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
        const stack_t stack = {.ss_sp = crash_stack, .ss_size = sizeof(crash_stack)};
        struct sigaction action = {.sa_sigaction = on_crash,
                        .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND};

        crashed = w;
        sigemptyset(&action.sa_mask);
        if (sigaltstack(&stack, NULL) == -1)
                return -errno;
        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
                if (sigaction(signals[i], &action, NULL) == -1)
                        return -errno;
        return 0;
}
