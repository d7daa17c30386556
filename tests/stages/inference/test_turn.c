/* The stage's turn, with echo and extract: claims, credit, cancel, deadlines, death. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shm/ring_state.h"
#include "world.h"

static struct world world;
static struct world_answer answer, other;
static struct settings_worker echo = {.name = "local", .kind = SETTINGS_WORKER_ECHO};

static void setup_with(struct world_setup setup) {
        setup.workers = &echo;
        setup.n_workers = 1;
        answer = other = (struct world_answer){0};
        world_new(&world, &setup);
}

static void setup(void) {
        echo.delay_ms = echo.gap_ms = 0;
        echo.kind = SETTINGS_WORKER_ECHO;
        setup_with((struct world_setup){0});
}

static void teardown(void) {
        world_free(&world);
}

START_TEST(an_unknown_model_is_refused) {
        uint64_t id = world_submit(
                        &world, &(struct world_request){.model = "none",
                                                .body = "{\"messages\":[{\"role\":\"user\","
                                                        "\"content\":\"x\"}]}"});

        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_model_not_found);
        ck_assert(strstr(answer.message, "none"));
        ck_assert_uint_eq(answer.n_heads, 1);
}
END_TEST

START_TEST(an_error_raised_earlier_is_answered_with_head_and_error) {
        uint64_t id = world_submit(
                        &world, &(struct world_request){.error = MR_E_context_length_exceeded});

        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_context_length_exceeded);
        ck_assert_str_eq(answer.message, "raised earlier");
        ck_assert_uint_eq(answer.n_heads, 1);
}
END_TEST

START_TEST(a_deadline_that_has_passed_ends_the_request_before_it_runs) {
        uint64_t id = world_submit(
                        &world, &(struct world_request){.deadline_ns = 1,
                                                .body = "{\"messages\":[{\"role\":\"user\","
                                                        "\"content\":\"x\"}]}"});

        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_deadline_exceeded);
        ck_assert_uint_eq(answer.n_deltas, 0);
}
END_TEST

START_TEST(a_mark_in_a_gateways_table_ends_a_request_when_it_is_claimed) {
        uint64_t id = world.now_req;

        ck_assert_int_eq(follow_add(world.admission, id), 0);
        ck_assert_int_eq(follow_mark(world.admission, id, FOLLOW_CANCELLED, 0), 0);
        ck_assert_uint_eq(world_say(&world, "x"), id);
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_cancelled);
}
END_TEST

START_TEST(a_cancel_for_nobody_is_taken_and_forgotten) {
        world_cancel(&world, 12345, CANCEL_CLIENT);
        world_turn(&world);
        ck_assert_uint_eq(ring_rx_depth(&world.w->in[1].rx), 0);
}
END_TEST

START_TEST(an_answer_over_its_limit_is_too_large) {
        world_free(&world);
        setup_with((struct world_setup){.max_response_bytes = 20});
        world_finish(&world, world_say(&world, "0123456789 0123456789 0123456789"), &answer);
        ck_assert_int_eq(answer.code, MR_E_too_large);
        ck_assert_uint_le(strlen(answer.text), 20);
}
END_TEST

START_TEST(echo_gives_the_last_user_message_back_word_by_word) {
        uint64_t id = world_say(&world, "one  two\\tthree\\n\\u00e9\\ud83d\\ude00 \\\"x\\\"");

        world_finish(&world, id, &answer);
        ck_assert_str_eq(answer.text, "one  two\tthree\n\xc3\xa9\xf0\x9f\x98\x80 \"x\"");
        ck_assert_uint_eq(answer.n_deltas, 5);
        ck_assert_int_eq(answer.code, MR_E_none);
        ck_assert_str_eq(answer.finish, "stop");
        ck_assert_str_eq(answer.worker, "local");
        ck_assert_uint_eq(answer.prompt_tokens, 7);
        ck_assert_uint_gt(answer.completion_tokens, 0);
}
END_TEST

START_TEST(echo_reads_text_parts_and_nothing_else) {
        static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\": [ "
                                   "{\"type\":\"text\",\"text\":\"a b\"},"
                                   "{\"type\":\"image_url\",\"image_url\":{\"url\":\"text\","
                                   "\"text\":\"no\"}} , {\"text\":\"c\",\"type\":\"text\"}]}]}";

        world_finish(&world, world_submit(&world, &(struct world_request){.body = body}), &answer);
        ck_assert_str_eq(answer.text, "a bc");
}
END_TEST

START_TEST(echo_of_an_empty_message_is_an_empty_answer) {
        world_finish(&world, world_say(&world, ""), &answer);
        ck_assert_int_eq(answer.code, MR_E_none);
        ck_assert_uint_eq(answer.n_heads, 1);
        ck_assert_uint_eq(answer.n_deltas, 0);
}
END_TEST

static char *long_body(uint32_t words, char **ret_text) {
        char *body = malloc(words * 8 + 128), *text = malloc(words * 8 + 1);
        size_t n = 0;

        for (uint32_t i = 0; i < words; i++)
                n += (size_t)sprintf(text + n, "w%u ", i % 100000);
        sprintf(body, "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}", text);
        *ret_text = text;
        return body;
}

START_TEST(a_body_in_the_arena_is_read_in_windows_and_a_full_ring_only_delays_it) {
        char *text, *body = long_body(9000, &text);
        uint64_t id = world_submit(&world, &(struct world_request){.body = body, .in_arena = true});
        bool was_full = false;

        while (answer.n_ends == 0) {
                for (int i = 0; i < 20; i++) {
                        world_turn(&world);
                        was_full |= world.w->out[0].blocked;
                }
                world_take(&world, id, &answer);
        }
        ck_assert(was_full);
        ck_assert_int_eq(answer.code, MR_E_none);
        ck_assert_str_eq(answer.text, text);
        free(body);
        free(text);
}
END_TEST

START_TEST(a_body_that_the_gateway_freed_ends_as_cancelled) {
        char *text, *body = long_body(3000, &text);
        uint64_t id = world_submit(&world, &(struct world_request){.body = body, .in_arena = true});

        arena_free(&world.arena_own, &world.body);
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_cancelled);
        free(body);
        free(text);
}
END_TEST

START_TEST(more_requests_than_slots_are_all_answered_once) {
        struct world_answer *answers = calloc(40, sizeof(*answers));
        uint64_t first = world.now_req;

        for (int i = 0; i < 40; i++)
                world_say(&world, "hello there");
        for (int turn = 0; turn < 200; turn++) {
                const struct ring_msg *msg;
                world_turn(&world);
                while (ring_rx_peek(&world.answers, &msg) == 0) {
                        struct world_answer *to = &answers[msg->req_id - first];
                        ck_assert_uint_eq(msg->ord, to->next_ord);
                        to->next_ord++;
                        to->n_ends += msg->type == RECORD_DONE;
                        ring_rx_take(&world.answers);
                        ring_rx_ack(&world.answers, msg->seq);
                }
                ring_rx_flush(&world.answers, true);
        }
        for (int i = 0; i < 40; i++)
                ck_assert_uint_eq(answers[i].n_ends, 1);
        ck_assert_uint_eq(ring_rx_depth(&world.w->in[0].rx), 0);
        free(answers);
}
END_TEST

START_TEST(a_slot_is_kept_until_post_has_passed_the_last_record) {
        struct inference *inf = world.w->stage;

        for (int i = 0; i < 12; i++)
                world_say(&world, "x");
        for (int i = 0; i < 5; i++)
                world_turn(&world);
        ck_assert_uint_eq(inf->slab.n_live, 8); /* all have ended, post has read nothing */
        ck_assert_uint_eq(ring_rx_depth(&world.w->in[0].rx), 4);
        ck_assert(inference_ops.may_sleep(world.w));
        ck_assert(inf->awaiting);
        world_take(&world, 0, &answer);
        ck_assert(!inference_ops.may_sleep(world.w) || !inf->awaiting);
        world_turn(&world);
        ck_assert_uint_eq(ring_rx_depth(&world.w->in[0].rx), 0);
}
END_TEST

START_TEST(answers_of_many_requests_interleave) {
        struct inference *inf = world.w->stage;
        const struct ring_msg *msg;
        uint64_t first, last = 0;
        unsigned changes = 0;

        world_free(&world);
        echo.gap_ms = 1;
        setup_with((struct world_setup){0});
        inf = world.w->stage;
        first = world_say(&world, "a b c d e f");
        for (int i = 0; i < 7; i++)
                world_say(&world, "a b c d e f");
        world_turn(&world);
        world_turn(&world);
        ck_assert_uint_eq(inf->n_open, 8);
        for (int turn = 0; inf->n_open && turn < 10000; turn++)
                world_turn(&world);
        while (ring_rx_peek(&world.answers, &msg) == 0) {
                changes += msg->req_id != last;
                last = msg->req_id;
                ring_rx_take(&world.answers);
                ring_rx_ack(&world.answers, msg->seq);
        }
        ck_assert_uint_gt(changes, 20);
        ck_assert_uint_ge(last, first);
}
END_TEST

START_TEST(a_cancel_ends_a_running_answer_and_only_that) {
        uint64_t a, b;

        world_free(&world);
        echo.gap_ms = 5;
        setup_with((struct world_setup){0});
        a = world_say(&world, "one two three four five six seven eight nine ten");
        world_turn(&world);
        world_take(&world, a, &answer);
        world_cancel(&world, a, CANCEL_DISCONNECT);
        world_turn(&world);
        world_take(&world, a, &answer);
        ck_assert_uint_eq(answer.n_ends, 1);
        ck_assert_int_eq(answer.code, MR_E_cancelled);
        ck_assert_uint_eq(answer.n_deltas, 1);
        b = world_say(&world, "y");
        world_finish(&world, b, &other);
        ck_assert_int_eq(other.code, MR_E_none);
}
END_TEST

START_TEST(what_was_delivered_of_an_answer_that_broke_off_is_counted_C15) {
        struct counters_shm *counters;
        uint64_t id;

        world_free(&world);
        echo.gap_ms = 5;
        setup_with((struct world_setup){0});
        counters = world.counters;
        id = world_say(&world, "extraordinary words");
        world_turn(&world);
        world_take(&world, id, &answer);
        ck_assert_uint_eq(counters_get(counters, COUNTER_tokens_completion), 0);
        world_cancel(&world, id, CANCEL_DISCONNECT);
        world_turn(&world);
        world_take(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_cancelled);
        ck_assert_uint_gt(counters_get(counters, COUNTER_tokens_completion), 0);
}
END_TEST

START_TEST(a_deadline_ends_a_running_answer) {
        uint64_t id;

        world_free(&world);
        echo.delay_ms = 3600000;
        setup_with((struct world_setup){0});
        id = world_submit(
                        &world, &(struct world_request){.deadline_ns = world_now() + 20 * NS_PER_MS,
                                                .body = "{\"messages\":[{\"role\":\"user\","
                                                        "\"content\":\"x\"}]}"});
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_deadline_exceeded);
}
END_TEST

START_TEST(who_had_emitted_nothing_runs_again_after_a_death) {
        uint64_t id;

        world_free(&world);
        echo.delay_ms = 1;
        setup_with((struct world_setup){0});
        id = world_say(&world, "hello");
        world_turn(&world);
        world_kill(&world);
        world_start(&world);
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_none);
        ck_assert_str_eq(answer.text, "hello");
        ck_assert_str_eq(answer.id, "id-100");
}
END_TEST

START_TEST(who_had_emitted_nothing_fails_where_the_operator_wants_it) {
        uint64_t id;

        world_free(&world);
        echo.delay_ms = 1;
        setup_with((struct world_setup){.fail_on_crash = true});
        id = world_say(&world, "hello");
        world_turn(&world);
        world_kill(&world);
        world_start(&world);
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_worker_restarted);
}
END_TEST

START_TEST(an_answer_that_had_begun_ends_with_one_error_at_the_next_ord) {
        uint64_t id;

        world_free(&world);
        echo.gap_ms = 3600000;
        setup_with((struct world_setup){0});
        id = world_say(&world, "hello there");
        world_turn(&world);
        world_take(&world, id, &answer);
        ck_assert_uint_eq(answer.n_deltas, 1);
        world_kill(&world);
        world_start(&world);
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_worker_restarted);
        ck_assert_uint_eq(answer.next_ord, 3);
        for (int i = 0; i < 3; i++) {
                world_kill(&world);
                world_start(&world);
                world_turn(&world);
                world_take(&world, id, &answer); /* would fail on anything after the end */
        }
}
END_TEST

/* A detached answer of two words, killed between them. */
static uint64_t detached_begun(struct world_setup setup) {
        uint64_t id;

        world_free(&world);
        echo.gap_ms = 3600000;
        setup_with(setup);
        id = world_submit(&world, &(struct world_request){.detached = true,
                                                  .body = "{\"messages\":[{\"role\":\"user\","
                                                          "\"content\":\"hello there\"}]}"});
        world_turn(&world);
        world_take(&world, id, &answer);
        ck_assert_str_eq(answer.text, "hello ");
        world_kill(&world);
        return id;
}

START_TEST(a_detached_answer_that_nobody_reads_runs_anew_as_often_as_it_is_lost) {
        uint64_t id = detached_begun((struct world_setup){0});

        ck_assert_int_eq(follow_add(world.admission, id), 0); /* its gateway follows it */
        for (uint32_t i = 0; i < 3; i++) {
                world_start(&world);
                world_turn(&world);
                world_take(&world, id, &answer);
                ck_assert_uint_eq(answer.n_restarts, i + 1);
                ck_assert_str_eq(answer.text, "hello ");
                world_kill(&world);
        }
        world.settings->inference.workers.v[0].gap_ms = 0;
        world_start(&world);
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_none);
        ck_assert_str_eq(answer.text, "hello there");
        ck_assert_uint_eq(answer.n_heads, 1);
}
END_TEST

START_TEST(a_detached_answer_that_somebody_has_read_ends_in_one_error) {
        uint64_t id = detached_begun((struct world_setup){0});

        ck_assert_int_eq(follow_add(world.admission, id), 0);
        ck_assert_int_eq(follow_mark(world.admission, id, FOLLOW_READ, 0), 0);
        world_start(&world);
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_worker_restarted);
        ck_assert_uint_eq(answer.n_restarts, 0);
}
END_TEST

START_TEST(a_detached_answer_is_not_said_again_where_the_operator_wants_no_second_run) {
        uint64_t id = detached_begun((struct world_setup){.fail_on_crash = true});

        world_start(&world);
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_worker_restarted);
}
END_TEST

START_TEST(a_detached_answer_that_kills_inference_each_time_is_given_up) {
        uint64_t id = detached_begun((struct world_setup){0});

        atomic_store(&((struct slab_shm *)world.slab)->slots[0].strikes, 3);
        world_start(&world);
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_dead_letter);
        ck_assert_uint_eq(answer.n_restarts, 0);
}
END_TEST

/* That request goes to its end, and meanwhile nobody else begins. */
static void finish_alone(uint64_t id) {
        const struct inference *inf = world.w->stage;

        while (answer.n_ends == 0) {
                world_turn(&world);
                world_take(&world, id, &answer);
                for (uint32_t slot = 0; slot < inf->slab.n_slots; slot++)
                        ck_assert(inf->flights[slot].state != FLIGHT_RUNNING ||
                                        inf->flights[slot].req_id == id || answer.n_ends > 0);
        }
}

START_TEST(a_request_with_a_strike_runs_alone_and_first) {
        uint64_t id[4];

        world_free(&world);
        echo.delay_ms = 1;
        setup_with((struct world_setup){0});
        for (int i = 0; i < 3; i++)
                id[i] = world_say(&world, "hello");
        world_turn(&world);
        world_kill(&world);
        atomic_store(&((struct slab_shm *)world.slab)->slots[1].strikes, 2);
        world_start(&world);
        ck_assert_uint_eq(slab_find(&((struct inference *)world.w->stage)->slab, id[1]), 1);
        id[3] = world_say(&world, "hello");
        finish_alone(id[1]);
        ck_assert_str_eq(answer.text, "hello");
        world_finish(&world, id[3], &other); /* the last one, which waited in the ring */
        ck_assert_str_eq(other.text, "hello");
        ck_assert_uint_eq(((struct inference *)world.w->stage)->n_open, 0);
}
END_TEST

START_TEST(a_strike_of_a_claim_that_was_lost_counts_before_anybody_runs) {
        uint64_t id[2], seq;

        world_kill(&world);
        id[0] = world_say(&world, "one");
        id[1] = world_say(&world, "two");
        seq = world.requests.committed - 1;
        atomic_store(&world.in.cons.cons->state[seq & (world.in.geo.n - 1)],
                        ring_state_pack(seq, 0, 1, RING_CLAIMED));
        world_start(&world);
        finish_alone(id[1]);
        ck_assert_str_eq(answer.text, "two");
        world_finish(&world, id[0], &other);
        ck_assert_str_eq(other.text, "one");
}
END_TEST

START_TEST(a_claim_that_was_lost_three_times_is_given_up_and_the_next_one_runs) {
        uint64_t id[2], seq;

        world_kill(&world);
        id[0] = world_say(&world, "one");
        seq = world.requests.committed - 1;
        id[1] = world_say(&world, "two");
        atomic_store(&world.in.cons.cons->state[seq & (world.in.geo.n - 1)],
                        ring_state_pack(seq, 0, 3, RING_CLAIMED));
        world_start(&world);
        finish_alone(id[0]);
        ck_assert_int_eq(answer.code, MR_E_dead_letter);
        ck_assert_uint_eq(answer.n_deltas, 0);
        world_finish(&world, id[1], &other);
        ck_assert_str_eq(other.text, "two");
}
END_TEST

START_TEST(a_restart_for_which_there_is_no_room_waits) {
        uint64_t id = detached_begun((struct world_setup){0}), n = 0;
        uint8_t *to;
        struct ring_tx *tx;

        world.settings->inference.workers.v[0].gap_ms = 0;
        world_start(&world);
        tx = &world.w->out->tx;
        for (; ring_tx_begin(tx, tx->map.geo.max_rec, &to) == 0; n++)
                ring_tx_end(tx, &(struct ring_meta){.type = RECORD_DELTA, .req_id = 1},
                                tx->map.geo.max_rec);
        ring_tx_commit(tx);
        ck_assert_uint_gt(n, 0);
        for (int i = 0; i < 5; i++)
                world_turn(&world);
        world_finish(&world, id, &answer);
        ck_assert_uint_eq(answer.n_restarts, 1);
        ck_assert_str_eq(answer.text, "hello there");
}
END_TEST

START_TEST(an_input_whose_ack_was_lost_is_not_taken_twice) {
        uint64_t id;

        world_free(&world);
        echo.delay_ms = 3600000;
        setup_with((struct world_setup){0});
        id = world_say(&world, "x");
        world_turn(&world);
        /* As if it had died between the commit and the ack. */
        atomic_store(&world.in.cons.cons->tail, 1);
        atomic_store(&world.in.cons.cons->state[1], 1ull << 32 | RING_CLAIMED);
        world_kill(&world);
        echo.delay_ms = 0;
        world_start(&world);
        world_turn(&world);
        ck_assert_uint_eq(((struct inference *)world.w->stage)->slab.n_live, 1);
        world_cancel(&world, id, CANCEL_CLIENT);
        world_finish(&world, id, &answer);
}
END_TEST

START_TEST(a_drain_parks_what_has_not_begun_and_finishes_the_rest) {
        uint64_t begun, fresh;

        world_free(&world);
        echo.gap_ms = 2;
        setup_with((struct world_setup){0});
        begun = world_say(&world, "one two three");
        world_turn(&world);
        world_take(&world, begun, &answer);
        inference_ops.drain(world.w);
        world.w->draining = true;
        ck_assert(!inference_ops.drained(world.w));
        fresh = world_say(&world, "later");
        world_finish(&world, begun, &answer);
        ck_assert_int_eq(answer.code, MR_E_none);
        ck_assert(inference_ops.drained(world.w));
        ck_assert_uint_eq(ring_rx_depth(&world.w->in[0].rx), 1);
        world_kill(&world);
        world_start(&world);
        world_finish(&world, fresh, &other);
        ck_assert_str_eq(other.text, "later");
}
END_TEST

START_TEST(extract_cites_the_documents_and_lists_them) {
        static const char *const docs[] = {
                        "Water turns the wheel. A millrace brings water to the mill wheel.",
                        "Something else entirely stands here."};

        world_free(&world);
        echo.kind = SETTINGS_WORKER_EXTRACT;
        setup_with((struct world_setup){0});
        world_finish(&world,
                        world_submit(&world,
                                        &(struct world_request){.documents = docs,
                                                        .n_documents = 2,
                                                        .body = "{\"messages\":[{\"role\":\"user\","
                                                                "\"content\":\"What does a "
                                                                "millrace bring?\"}]}"}),
                        &answer);
        ck_assert_int_eq(answer.code, MR_E_none);
        ck_assert_msg(strstr(answer.text, "A millrace brings water to the mill wheel. [1]") != NULL,
                        "%s", answer.text);
        ck_assert_uint_eq(answer.n_sources, 2);
        ck_assert_uint_gt(answer.n_deltas, 5);
}
END_TEST

START_TEST(extract_without_documents_says_how_to_add_some) {
        world_free(&world);
        echo.kind = SETTINGS_WORKER_EXTRACT;
        setup_with((struct world_setup){0});
        world_finish(&world, world_say(&world, "anything?"), &answer);
        ck_assert(strstr(answer.text, "`millrace index add PATH`"));
        ck_assert_int_eq(answer.code, MR_E_none);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("inference turn");
        TCase *tc = tcase_create("turn");

        tcase_set_timeout(tc, 120);
        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_test(tc, an_unknown_model_is_refused);
        tcase_add_test(tc, an_error_raised_earlier_is_answered_with_head_and_error);
        tcase_add_test(tc, a_deadline_that_has_passed_ends_the_request_before_it_runs);
        tcase_add_test(tc, a_mark_in_a_gateways_table_ends_a_request_when_it_is_claimed);
        tcase_add_test(tc, a_cancel_for_nobody_is_taken_and_forgotten);
        tcase_add_test(tc, an_answer_over_its_limit_is_too_large);
        tcase_add_test(tc, echo_gives_the_last_user_message_back_word_by_word);
        tcase_add_test(tc, echo_reads_text_parts_and_nothing_else);
        tcase_add_test(tc, echo_of_an_empty_message_is_an_empty_answer);
        tcase_add_test(tc, a_body_in_the_arena_is_read_in_windows_and_a_full_ring_only_delays_it);
        tcase_add_test(tc, a_body_that_the_gateway_freed_ends_as_cancelled);
        tcase_add_test(tc, more_requests_than_slots_are_all_answered_once);
        tcase_add_test(tc, a_slot_is_kept_until_post_has_passed_the_last_record);
        tcase_add_test(tc, answers_of_many_requests_interleave);
        tcase_add_test(tc, a_cancel_ends_a_running_answer_and_only_that);
        tcase_add_test(tc, what_was_delivered_of_an_answer_that_broke_off_is_counted_C15);
        tcase_add_test(tc, a_deadline_ends_a_running_answer);
        tcase_add_test(tc, who_had_emitted_nothing_runs_again_after_a_death);
        tcase_add_test(tc, who_had_emitted_nothing_fails_where_the_operator_wants_it);
        tcase_add_test(tc, an_answer_that_had_begun_ends_with_one_error_at_the_next_ord);
        tcase_add_test(tc, a_detached_answer_that_nobody_reads_runs_anew_as_often_as_it_is_lost);
        tcase_add_test(tc, a_detached_answer_that_somebody_has_read_ends_in_one_error);
        tcase_add_test(tc, a_detached_answer_is_not_said_again_where_the_operator_wants_no_second_run);
        tcase_add_test(tc, a_detached_answer_that_kills_inference_each_time_is_given_up);
        tcase_add_test(tc, a_request_with_a_strike_runs_alone_and_first);
        tcase_add_test(tc, a_strike_of_a_claim_that_was_lost_counts_before_anybody_runs);
        tcase_add_test(tc, a_claim_that_was_lost_three_times_is_given_up_and_the_next_one_runs);
        tcase_add_test(tc, a_restart_for_which_there_is_no_room_waits);
        tcase_add_test(tc, an_input_whose_ack_was_lost_is_not_taken_twice);
        tcase_add_test(tc, a_drain_parks_what_has_not_begun_and_finishes_the_rest);
        tcase_add_test(tc, extract_cites_the_documents_and_lists_them);
        tcase_add_test(tc, extract_without_documents_says_how_to_add_some);
        suite_add_tcase(suite, tc);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
