/* The echo path allocates nothing once it is warm. Counts calls of malloc by standing in front of
 * it, which a sanitizer would not like: then there is nothing to be tested here. */
#include <check.h>
#include <stdlib.h>

#include "world.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#ifndef SANITIZED

static volatile bool counting; /* malloc is known to the compiler, what it writes is not */
static volatile unsigned n_calls;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n) {
        n_calls += counting;
        return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
        n_calls += counting;
        return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n) {
        n_calls += counting;
        return __libc_realloc(p, n);
}

static void round_of(struct world *world, unsigned n) {
        const struct ring_msg *msg;
        unsigned n_done = 0;

        for (unsigned i = 0; i < n; i++)
                world_say(world, "hello there you");
        counting = true;
        while (n_done < n) {
                (void)loop_turn(world->w->loop, 0); /* not world_turn(): checks allocate */
                (void)inference_ops.turn(world->w);
                while (ring_rx_peek(&world->answers, &msg) == 0) {
                        ring_rx_take(&world->answers);
                        n_done += msg->type == RECORD_DONE;
                        ring_rx_ack(&world->answers, msg->seq);
                }
                ring_rx_flush(&world->answers, true);
        }
        counting = false;
}

START_TEST(echo_allocates_nothing_in_steady_state) {
        static const struct settings_worker echo = {
                        .name = (char *)"local", .kind = SETTINGS_WORKER_ECHO};
        static struct world world;

        void *volatile probe;

        counting = true;
        probe = malloc(1);
        counting = false;
        free(probe);
        ck_assert_uint_eq(n_calls, 1); /* the counter works */
        world_new(&world, &(struct world_setup){.workers = &echo, .n_workers = 1});
        round_of(&world, 20);
        n_calls = 0;
        for (int i = 0; i < 50; i++)
                round_of(&world, 20);
        ck_assert_uint_eq(n_calls, 0);
        world_free(&world);
}
END_TEST

#endif

int main(void) {
        Suite *suite = suite_create("inference alloc");
        TCase *tc = tcase_create("alloc");

        suite_add_tcase(suite, tc);
#ifndef SANITIZED
        tcase_add_test(tc, echo_allocates_nothing_in_steady_state);
#endif
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
