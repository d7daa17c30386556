/* turn_answer: the message that a session keeps of an answer's events. */
#include "stages/stream/turn_answer.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct turn_answer answer;
static struct record_decoder decoder;

static void set_up(void) {
        ck_assert_int_eq(record_decoder_init(&decoder), 0);
}

static void tear_down(void) {
        record_decoder_close(&decoder);
}

static struct mr_view view(const char *text) {
        return (struct mr_view){text, (uint32_t)strlen(text)};
}

static void event(uint32_t type, const struct record *record) {
        uint8_t bytes[1024];
        uint32_t len;

        ck_assert_int_eq(record_encode(record, bytes, sizeof(bytes), &len), 0);
        ck_assert_int_eq(turn_answer_event(&answer, &decoder, type, bytes, len), 0);
}

static void text(const char *words, uint64_t choice, const char *kind) {
        struct record record = {.has = HAS(text), .text = view(words), .choice = choice};

        record.has |= choice ? HAS(choice) : 0;
        if (kind) {
                record.has |= HAS(delta_kind);
                record.delta_kind = view(kind);
        }
        event(RECORD_DELTA, &record);
}

static msgpack_object str(const char *words) {
        return (msgpack_object){.type = MSGPACK_OBJECT_STR,
                        .via.str = {(uint32_t)strlen(words), words}};
}

static void tool(uint64_t index, const char *id, const char *name, const char *arguments) {
        msgpack_object_kv kv[4] = {{str("index"), {.type = MSGPACK_OBJECT_POSITIVE_INTEGER,
                                                                  .via.u64 = index}},
                        {str("id"), str(id)}, {str("name"), str(name)},
                        {str("arguments"), str(arguments)}};
        msgpack_object map = {.type = MSGPACK_OBJECT_MAP, .via.map = {4, kv}};

        event(RECORD_DELTA, &(struct record){.has = HAS(tool), .tool = &map});
}

static void expect(const char *message) {
        char *made;
        uint32_t n;

        ck_assert_int_eq(turn_answer_end(&answer, &made, &n), 0);
        if (!message)
                ck_assert_ptr_null(made);
        else
                ck_assert_msg(made && n == strlen(message) && memcmp(made, message, n) == 0, "%.*s",
                                (int)n, made ? made : "");
        free(made);
}

START_TEST(what_is_no_record_is_refused) {
        ck_assert_int_eq(turn_answer_event(&answer, &decoder, RECORD_DELTA, "\xc1", 1), -EPROTO);
        expect(NULL);
}
END_TEST

START_TEST(an_answer_that_says_nothing_is_no_message) {
        event(RECORD_DONE, &(struct record){.has = HAS(finish_reason), .finish_reason = view("stop")});
        text("thinking", 0, "reasoning");
        text("another choice", 1, NULL);
        expect(NULL);
}
END_TEST

START_TEST(texts_are_one_text_and_whatever_is_not_utf8_is_mended) {
        text("a \"b\"\n", 0, NULL);
        text("other", 1, NULL);
        text("\xff c", 0, NULL);
        expect("{\"role\":\"assistant\",\"content\":\"a \\\"b\\\"\\n\xef\xbf\xbd c\"}");
        text("x", 0, NULL);
        expect("{\"role\":\"assistant\",\"content\":\"x\"}");
}
END_TEST

START_TEST(fragments_of_a_call_are_one_call) {
        tool(1, "c1", "g", "{}");
        tool(0, "c0", "f", "{\"x\":");
        tool(0, "", "", "1}");
        tool(TURN_TOOLS_MAX, "far", "away", "");
        expect("{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":["
               "{\"type\":\"function\",\"id\":\"c0\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}},"
               "{\"type\":\"function\",\"id\":\"c1\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]}");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("turn_answer");
        TCase *tc = tcase_create("turn_answer");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, what_is_no_record_is_refused);
        tcase_add_test(tc, an_answer_that_says_nothing_is_no_message);
        tcase_add_test(tc, texts_are_one_text_and_whatever_is_not_utf8_is_mended);
        tcase_add_test(tc, fragments_of_a_call_are_one_call);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
