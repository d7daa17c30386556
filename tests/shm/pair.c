#include "pair.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Far longer than any wake takes: the wait of a sleeper that nobody will ever wake. */
#define TRIPWIRE_MS 20000

void pair_object_name(char buf[static SEGMENT_NAME_MAX], const char *object) {
        static unsigned n;
        char instance[64];

        snprintf(instance, sizeof(instance), "pair%d-%u", (int)getpid(), n++);
        ck_assert_int_eq(segment_name(buf, instance, object), 0);
}

static void set_start(struct pair *pair, uint64_t start) {
        struct ring_desc *before = &pair->prod.desc[(start - 1) & (pair->geo.n - 1)];

        atomic_store_explicit(&pair->prod.prod->head, start, memory_order_relaxed);
        atomic_store_explicit(&pair->cons.cons->tail, start, memory_order_relaxed);
        atomic_store_explicit(&before->seq, start - 1, memory_order_relaxed);
        before->pos = 64 * (start - 1);
}

struct pair pair_new(struct ring_geometry geo, uint64_t start) {
        char prod_name[SEGMENT_NAME_MAX], cons_name[SEGMENT_NAME_MAX];
        struct segment_fds prod, cons;
        struct pair pair = {.geo = geo};

        pair_object_name(prod_name, "ring.1.p");
        pair_object_name(cons_name, "ring.1.c");
        /* Of a process that had this number before and was killed in between. */
        (void)segment_unlink(prod_name);
        (void)segment_unlink(cons_name);
        ck_assert_int_eq(segment_create(prod_name, ring_prod_bytes(&geo), &prod), 0);
        ck_assert_int_eq(segment_create(cons_name, ring_cons_bytes(&geo), &cons), 0);
        ck_assert_int_eq(segment_map_ring(prod.rw, cons.ro, &geo, true, &pair.prod), 0);
        ck_assert_int_eq(segment_map_ring(prod.ro, cons.rw, &geo, false, &pair.cons), 0);
        segment_close(&prod);
        segment_close(&cons);
        ck_assert_int_eq(segment_unlink(prod_name), 0);
        ck_assert_int_eq(segment_unlink(cons_name), 0);
        ring_prod_format(pair.prod.prod);
        ring_cons_format(pair.cons.cons);
        if (start != 1)
                set_start(&pair, start);
        ck_assert_int_eq(doorbell_new(&pair.bell_prod), 0);
        ck_assert_int_eq(doorbell_new(&pair.bell_cons), 0);
        return pair;
}

void pair_close(struct pair *pair) {
        segment_unmap_ring(&pair->prod);
        segment_unmap_ring(&pair->cons);
        close(pair->bell_prod);
        close(pair->bell_cons);
}

bool bell_rang(int fd) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        bool rang = poll(&wait, 1, 0) == 1;

        doorbell_clear(fd);
        return rang;
}

bool bell_wait(int fd) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};

        if (poll(&wait, 1, TRIPWIRE_MS) != 1)
                return false;
        doorbell_clear(fd);
        return true;
}

void pattern_fill(uint8_t *to, uint64_t n, uint32_t len) {
        for (uint32_t i = 0; i < len; i++)
                to[i] = pattern(n, i);
}

bool pattern_is(const uint8_t *bytes, uint64_t n, uint32_t len) {
        for (uint32_t i = 0; i < len; i++)
                if (bytes[i] != pattern(n, i))
                        return false;
        return true;
}

int pair_emit(struct ring_tx *tx, uint64_t n, uint32_t len, uint8_t flags) {
        const struct ring_meta meta = {.type = 3,
                        .flags = flags,
                        .src = ring_src(9, n),
                        .ord = 4,
                        .req_id = n,
                        .t0 = n + 1};
        uint8_t *to;
        int r;

        r = ring_tx_begin(tx, len, &to);
        if (r != 0)
                return r;
        pattern_fill(to, n, len);
        ring_tx_end(tx, &meta, len);
        return 0;
}

/* xorshift64: the same run again for the same start. */
uint64_t pair_random(uint64_t *state) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

pid_t pair_fork(void (*fn)(void *ctx), void *ctx) {
        pid_t parent = getpid(), pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid > 0)
                return pid;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
                fn(ctx);
        _exit(1);
}

bool pair_kill(pid_t pid) {
        int status;

        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}
