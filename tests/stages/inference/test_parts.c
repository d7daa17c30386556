/* The pure parts of inference: splice, breaker, what a backend's errors mean. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/body.h"
#include "stages/common/breaker.h"
#include "stages/inference/openai_error.h"
#include "stages/inference/splice.h"

/* ---- splice --------------------------------------------------------------------------------- */

struct sink {
        const char *body;
        char out[1024];
        uint32_t n;
};

static int put(void *ctx, const struct splice_piece *run) {
        struct sink *sink = ctx;

        memcpy(sink->out + sink->n, run->literal ? run->literal : sink->body + run->off, run->len);
        sink->n += run->len;
        sink->out[sink->n] = '\0';
        return 0;
}

static int spliced(struct sink *sink, const char *body, const struct splice_piece *pieces,
                uint32_t n_pieces, const struct splice_edit *edits, uint32_t n_edits) {
        *sink = (struct sink){.body = body};
        return splice(pieces, n_pieces, edits, n_edits, (uint32_t)strlen(body), put, sink);
}

START_TEST(a_piece_outside_the_body_is_refused) {
        const struct splice_piece beyond = {.off = 3, .len = 3},
                                  far = {.off = UINT32_MAX, .len = UINT32_MAX};
        struct sink sink;

        ck_assert_int_eq(spliced(&sink, "01234", &beyond, 1, NULL, 0), -EPROTO);
        ck_assert_int_eq(spliced(&sink, "01234", &far, 1, NULL, 0), -EPROTO);
}
END_TEST

START_TEST(an_edit_that_no_span_holds_is_refused) {
        const struct splice_piece pieces[] = {
                        {.off = 0, .len = 4}, {.literal = "x", .len = 1}, {.off = 6, .len = 4}};
        const struct splice_edit lost[] = {{4, 1, "y", 1}, {3, 2, "y", 1}, {10, 0, "y", 1}};
        struct sink sink;

        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(spliced(&sink, "0123456789", pieces, 3, &lost[i], 1), -EPROTO);
}
END_TEST

START_TEST(edits_apply_in_any_span_and_the_rest_stays_as_it_is) {
        const struct splice_piece pieces[] = {
                        {.off = 0, .len = 4}, {.literal = "LIT", .len = 3}, {.off = 6, .len = 4}};
        struct splice_edit edits[] = {
                        {9, 0, "+", 1}, {6, 1, "six", 3}, {0, 0, "^", 1}, {2, 2, "", 0}};
        struct sink sink;

        splice_sort(edits, 4);
        ck_assert_int_eq(spliced(&sink, "0123456789", pieces, 3, edits, 4), 0);
        ck_assert_str_eq(sink.out, "^01LITsix78+9");
}
END_TEST

START_TEST(odd_spacing_duplicate_keys_and_escapes_stay_byte_for_byte) {
        static const char body[] = "{ \"model\" : \"a\",\n\t\"x\\u0041\" : [1.50e+1 , {} "
                                   "],\"messages\": [ {\"role\":\"user\",  "
                                   "\"content\" : \"h\\u00e9\"}], \"model\":\t\"b\\u0062\" , "
                                   "\"stream\" :false }";
        struct body_found *found = malloc(sizeof(*found));
        struct body_scanner *scanner;
        struct splice_piece whole = {.len = (uint32_t)strlen(body)};
        struct splice_edit edits[3];
        struct sink sink;

        ck_assert_int_eq(body_scanner_new(&scanner), 0);
        ck_assert_int_eq(body_scan(scanner, BODY_CHAT, body, whole.len, found), 0);
        edits[0] = (struct splice_edit){found->marks.object_end, 0, ",\"n\":1", 6};
        edits[1] = (struct splice_edit){
                        found->marks.model.off, found->marks.model.len, "\"up\"", 4};
        edits[2] = (struct splice_edit){
                        found->marks.stream.off, found->marks.stream.len, "true", 4};
        splice_sort(edits, 3);
        ck_assert_int_eq(spliced(&sink, body, &whole, 1, edits, 3), 0);
        ck_assert_str_eq(sink.out, "{ \"model\" : \"a\",\n\t\"x\\u0041\" : [1.50e+1 , {} "
                                   "],\"messages\": [ {\"role\":\"user\","
                                   "  \"content\" : \"h\\u00e9\"}], \"model\":\t\"up\" , "
                                   "\"stream\" :true ,\"n\":1}");
        body_scanner_free(scanner);
        free(found);
}
END_TEST

/* ---- breaker: the clock is ours ------------------------------------------------------------- */

START_TEST(a_breaker_opens_at_so_many_failures_within_its_window_only) {
        struct breaker b;

        ck_assert_int_eq(breaker_init(&b, 3, 100, 50), 0);
        ck_assert(!breaker_failure(&b, 0));
        ck_assert(!breaker_failure(&b, 60));
        ck_assert(!breaker_failure(&b, 120)); /* the first is out of the window */
        ck_assert(breaker_allow(&b, 120));
        ck_assert(breaker_failure(&b, 130));
        ck_assert(!breaker_allow(&b, 131));
        ck_assert_uint_eq(breaker_wait_ns(&b, 140), 40);
        breaker_close(&b);
}
END_TEST

START_TEST(a_success_forgets_failures) {
        struct breaker b;

        ck_assert_int_eq(breaker_init(&b, 2, 100, 50), 0);
        ck_assert(!breaker_failure(&b, 1));
        breaker_success(&b);
        ck_assert(!breaker_failure(&b, 2));
        ck_assert(breaker_failure(&b, 3));
        breaker_close(&b);
}
END_TEST

START_TEST(half_open_lets_one_request_through_and_its_end_decides) {
        struct breaker b;

        ck_assert_int_eq(breaker_init(&b, 1, 100, 50), 0);
        ck_assert(breaker_failure(&b, 0));
        ck_assert(!breaker_allow(&b, 49));
        ck_assert(breaker_allow(&b, 50));
        ck_assert(!breaker_allow(&b, 51));
        ck_assert(breaker_failure(&b, 60)); /* open again */
        ck_assert(!breaker_allow(&b, 109));
        ck_assert(breaker_allow(&b, 110));
        breaker_forget(&b); /* cancelled: the next one probes */
        ck_assert(breaker_allow(&b, 111));
        breaker_success(&b);
        ck_assert(breaker_allow(&b, 112) && breaker_allow(&b, 112));
        breaker_close(&b);
}
END_TEST

START_TEST(an_old_success_does_not_close_an_open_breaker) {
        struct breaker b;

        ck_assert_int_eq(breaker_init(&b, 1, 100, 50), 0);
        ck_assert(breaker_failure(&b, 0));
        breaker_success(&b);
        ck_assert(!breaker_allow(&b, 1));
        breaker_close(&b);
}
END_TEST

/* ---- errors --------------------------------------------------------------------------------- */

static struct chunk_failure failure(const char *type, const char *code, const char *message) {
        struct chunk_failure f = {.has = true};

        if (type)
                f.type = (struct chunk_str){type, (uint32_t)strlen(type)};
        if (code)
                f.code = (struct chunk_str){code, (uint32_t)strlen(code)};
        if (message)
                f.message = (struct chunk_str){message, (uint32_t)strlen(message)};
        return f;
}

START_TEST(http_errors_keep_their_class) {
        static const struct {
                unsigned status;
                const char *type, *code;
                enum mr_error want;
                bool retry, fall_back;
        } rows[] = {
                        {400, "invalid_request_error", NULL, MR_E_invalid_request, false, false},
                        {400, "exceed_context_size_error", "400", MR_E_context_length_exceeded,
                                        false, false},
                        {400, "invalid_request_error", "context_length_exceeded",
                                        MR_E_context_length_exceeded, false, false},
                        {400, NULL, "content_filter", MR_E_content_filtered, false, false},
                        {400, "rate_limit_error", NULL, MR_E_invalid_request, false, false},
                        {401, "authentication_error", NULL, MR_E_upstream_error, false, true},
                        {403, NULL, NULL, MR_E_upstream_error, false, true},
                        {404, NULL, "model_not_found", MR_E_model_not_found, false, true},
                        {404, NULL, NULL, MR_E_upstream_error, false, true},
                        {413, NULL, NULL, MR_E_too_large, false, false},
                        {429, "rate_limit_error", NULL, MR_E_rate_limited, true, true},
                        {429, NULL, "insufficient_quota", MR_E_rate_limited, false, true},
                        {302, NULL, NULL, MR_E_upstream_error, false, true},
                        {500, NULL, NULL, MR_E_upstream_error, true, true},
                        {503, "overloaded_error", NULL, MR_E_overloaded, true, true},
                        {503, NULL, NULL, MR_E_upstream_error, true, true},
                        {504, NULL, NULL, MR_E_upstream_error, true, true},
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct chunk_failure said = failure(rows[i].type, rows[i].code, NULL);
                struct attempt_failure f = openai_http_failure(rows[i].status, &said, 1500);
                ck_assert_msg(f.code == rows[i].want && f.retry == rows[i].retry &&
                                                f.fall_back == rows[i].fall_back,
                                "row %zu: %s %d %d", i, mr_error_name(f.code), f.retry,
                                f.fall_back);
                ck_assert_uint_eq(f.retry_after_ms, 1500);
        }
}
END_TEST

START_TEST(errors_in_mid_stream_keep_their_class_C25) {
        static const struct {
                const char *type, *code;
                enum mr_error want;
        } rows[] = {
                        {"overloaded_error", NULL, MR_E_overloaded},
                        {"server_error", "server_is_overloaded", MR_E_overloaded},
                        {"BadRequestError", "400", MR_E_invalid_request},
                        {"InternalServerError", "500", MR_E_upstream_error},
                        {NULL, "429", MR_E_rate_limited},
                        {NULL, NULL, MR_E_upstream_error},
                        {"timeout_error", NULL, MR_E_upstream_timeout},
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct chunk_failure said = failure(rows[i].type, rows[i].code, NULL);
                ck_assert_msg(openai_stream_failure(&said).code == rows[i].want, "row %zu", i);
        }
}
END_TEST

START_TEST(a_backends_code_and_param_are_told_of_what_it_refuses_only) {
        static const struct {
                enum mr_error code;
                const char *said, *want;
        } rows[] = {
                        {MR_E_invalid_request, NULL, ""},
                        {MR_E_invalid_request, "400", ""},
                        {MR_E_invalid_request, "two\nlines", ""},
                        {MR_E_invalid_request, "bad\xff", ""},
                        {MR_E_invalid_request, "sk-123 is bad", ""},
                        {MR_E_invalid_request, "caf\xc3\xa9 4", "caf\xc3\xa9 4"},
                        {MR_E_context_length_exceeded, "string_above_max_length",
                                        "string_above_max_length"},
                        {MR_E_content_filtered, "content_policy_violation",
                                        "content_policy_violation"},
                        {MR_E_rate_limited, "insufficient_quota", "insufficient_quota"},
                        {MR_E_upstream_error, "invalid_api_key", ""},
                        {MR_E_overloaded, "server_is_overloaded", ""},
                        {MR_E_model_not_found, "DeploymentNotFound", ""},
        };
        char large[ATTEMPT_OWN_MAX + 1];
        struct attempt_failure f = {.code = MR_E_invalid_request};
        struct chunk_failure said;

        memset(large, 'x', ATTEMPT_OWN_MAX);
        large[ATTEMPT_OWN_MAX] = '\0';
        said = failure(NULL, large, NULL);
        said.param = (struct chunk_str){large, ATTEMPT_OWN_MAX - 1};
        openai_own(&said, NULL, &f);
        ck_assert_str_eq(f.own.code, "");
        ck_assert_str_eq(f.own.param, large + 1);
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                said = failure(NULL, rows[i].said, NULL);
                f = (struct attempt_failure){.code = rows[i].code};
                openai_own(&said, "sk-123", &f);
                ck_assert_msg(strcmp(f.own.code, rows[i].want) == 0, "row %zu: %s", i, f.own.code);
                ck_assert_str_eq(f.own.param, "");
        }
}
END_TEST

START_TEST(a_message_is_one_clean_line_without_the_key) {
        char said[OPENAI_MESSAGE_MAX], lengthy[2048];
        struct chunk_failure f = failure(NULL, NULL, "bad key sk-123 given");

        openai_message(&f, "sk-123", said);
        ck_assert_str_eq(said, "");
        f = failure(NULL, NULL, "two\nlines\x01");
        openai_message(&f, "sk-123", said);
        ck_assert_str_eq(said, "two lines ");
        for (size_t i = 0; i + 2 < sizeof(lengthy); i += 2)
                memcpy(lengthy + i, "\xc3\xa9", 2);
        lengthy[sizeof(lengthy) - 2] = '\0';
        f = failure(NULL, NULL, lengthy);
        openai_message(&f, NULL, said);
        ck_assert_uint_eq(strlen(said) % 2, 0);
        ck_assert_uint_gt(strlen(said), OPENAI_MESSAGE_MAX - 4);
        f = failure(NULL, NULL, "ok\xff\xfe");
        openai_message(&f, NULL, said);
        ck_assert_str_eq(said, "ok");
        f = failure(NULL, NULL, NULL);
        openai_message(&f, NULL, said);
        ck_assert_str_eq(said, "");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("inference parts");
        TCase *tc = tcase_create("parts");

        tcase_add_test(tc, a_piece_outside_the_body_is_refused);
        tcase_add_test(tc, an_edit_that_no_span_holds_is_refused);
        tcase_add_test(tc, edits_apply_in_any_span_and_the_rest_stays_as_it_is);
        tcase_add_test(tc, odd_spacing_duplicate_keys_and_escapes_stay_byte_for_byte);
        tcase_add_test(tc, a_breaker_opens_at_so_many_failures_within_its_window_only);
        tcase_add_test(tc, a_success_forgets_failures);
        tcase_add_test(tc, half_open_lets_one_request_through_and_its_end_decides);
        tcase_add_test(tc, an_old_success_does_not_close_an_open_breaker);
        tcase_add_test(tc, http_errors_keep_their_class);
        tcase_add_test(tc, errors_in_mid_stream_keep_their_class_C25);
        tcase_add_test(tc, a_backends_code_and_param_are_told_of_what_it_refuses_only);
        tcase_add_test(tc, a_message_is_one_clean_line_without_the_key);
        suite_add_tcase(suite, tc);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
