/* redact_prompt: which texts of a body are looked at, what becomes of a find, and that nothing else changes. */
#include "stages/assemble/redact_prompt.h"
#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"
#include "tests/stages/prompt/rig.h"

static struct settings *settings;
static struct redact_prompt *r;
static struct record_decoder decoder;
static char *entities[] = {"EMAIL_ADDRESS", "CREDIT_CARD", "US_SSN", "US_PASSPORT"};
static char *actions[] = {"CREDIT_CARD=mask", "US_SSN=block"};
static struct mr_view note;

static void use(bool numbered, bool restore, unsigned n_actions) {
        struct redact_why why = {""};

        settings->post.redact.entities.v = entities;
        settings->post.redact.entities.n = 4;
        settings->post.redact.actions.v = actions;
        settings->post.redact.actions.n = n_actions;
        settings->post.redact.numbered = numbered;
        settings->post.redact.restore = restore;
        settings->post.redact.input = !restore; /* which restore implies */
        r = redact_prompt_free(r);
        ck_assert_msg(redact_prompt_new(settings, &r, &why) == 0, "%s", why.text);
        settings->post.redact.entities.v = settings->post.redact.actions.v = NULL;
        settings->post.redact.entities.n = settings->post.redact.actions.n = 0;
}

static void setup(void) {
        struct redact_why why;

        ck_assert_int_eq(settings_default(&settings), 0);
        ck_assert_int_eq(record_decoder_init(&decoder), 0);
        ck_assert_int_eq(redact_prompt_new(settings, &r, &why), 0);
        ck_assert_ptr_null(r); /* nothing is configured */
        use(false, false, 0);
}

static void teardown(void) {
        r = redact_prompt_free(r);
        record_decoder_close(&decoder);
        settings = settings_free(settings);
}

/* A body as it goes out. */
static const char *out_of(const char *body, const char *content, enum record_endpoint endpoint) {
        struct body_marks marks = {0};
        struct record record = record_of(body, &marks, content);

        record.has |= HAS(endpoint);
        record.endpoint = endpoint;
        ck_assert_int_eq(prompt_build(&prompt, &templates, &record, NULL, &wide), 0);
        ck_assert_int_eq(redact_prompt(r, &prompt, &record, NULL, &note), 0);
        return whole(&record);
}

static int refusal_of(const char *body, const char *content) {
        struct body_marks marks = {0};
        struct record record = record_of(body, &marks, content);

        ck_assert_int_eq(prompt_build(&prompt, &templates, &record, NULL, &wide), 0);
        return redact_prompt(r, &prompt, &record, NULL, &note);
}

/* ---- refusals ---- */

START_TEST(what_cannot_be_walked_is_not_sent) {
        ck_assert_int_eq(refusal_of("{\"messages\":[{\"content\":\"a@b.com\"]}", "\"a@b.com\""),
                        PROMPT_E_UNREADABLE);
        ck_assert_int_eq(refusal_of("{\"messages\":[{\"content\":\"a@b.com\"}]", "\"a@b.com\""),
                        PROMPT_E_UNREADABLE);
}
END_TEST

START_TEST(what_blocks_is_refused_by_its_entity_and_never_by_its_text) {
        use(false, false, 2);
        ck_assert_int_eq(refusal_of("{\"messages\":[{\"role\":\"user\",\"content\":\"ssn 536-90-4399\"}]}",
                                         "\"ssn 536-90-4399\""),
                        PROMPT_E_BLOCKED);
        ck_assert_ptr_nonnull(strstr(prompt.message, "US_SSN"));
        ck_assert_ptr_null(strstr(prompt.message, "4399"));
}
END_TEST

/* ---- which texts ---- */

#define MAIL "a@b.com"
#define GONE "<EMAIL_ADDRESS>"

/* The one message around whose inside everything else stays. */
static void chat(const char *inside, const char *want) {
        char body[1024], expected[1024];

        snprintf(body, sizeof(body), "{ \"messages\":[ {%s} ],\"x\":\"" MAIL "\" , \"n\":1.50}", inside);
        snprintf(expected, sizeof(expected), "{ \"messages\":[ {%s} ],\"x\":\"" MAIL "\" , \"n\":1.50}", want);
        ck_assert_str_eq(out_of(body, "{", ENDPOINT_CHAT), expected);
}

/* A text with the value in each place of %s. */
static void fill(char *to, size_t cap, const char *text, const char *value) {
        size_t n = 0;

        for (const char *place; (place = strstr(text, "%s")) != NULL; text = place + 2)
                n += (size_t)snprintf(to + n, cap - n, "%.*s%s", (int)(place - text), text, value);
        snprintf(to + n, cap - n, "%s", text);
}

START_TEST(texts_of_messages_are_redacted_and_nothing_else) {
        static const char *const texts[] = {
                        "\"content\":\"to %s\"",
                        "\"role\":\"tool\",\"tool_call_id\":\"a@b.com\",\"content\":\"{\\\"to\\\":\\\"%s\\\"}\"",
                        "\"content\":[\"%s\",{\"type\":\"text\",\"text\":\"%s\"},{\"image_url\":{\"url\":\"a@b.com\"}}]",
                        "\"content\":[{\"type\":\"tool_result\",\"content\":[{\"text\":\"%s\"}],\"id\":\"a@b.com\"}]",
                        "\"content\":null,\"refusal\":\"%s\",\"reasoning_content\":\"%s\",\"reasoning\":\"%s\"",
                        "\"name\":\"a@b.com\",\"content\":\"%s\",\"content\":\"%s, twice\"",
                        "\"c\\u006fntent\":\"%s\",\"audio\":{\"id\":\"a@b.com\"}",
                        "\"tool_calls\":[{\"id\":\"a@b.com\",\"function\":{\"name\":\"a@b.com\",\"arguments\":\"%s\"}}]",
                        "\"tool_calls\":[{\"custom\":{\"name\":\"a@b.com\",\"input\":\"%s\"}}]",
                        "\"function_call\":{\"arguments\":{\"to\":[\"%s\"]}}",
                        "\"content\":{\"text\":\"a@b.com\"},\"unknown\":[\"a@b.com\"]",
        };

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                char inside[512], want[512];
                fill(inside, sizeof(inside), texts[i], MAIL);
                fill(want, sizeof(want), texts[i], GONE);
                chat(inside, want);
        }
}
END_TEST

START_TEST(texts_beside_messages_and_of_other_endpoints) {
        static const struct {
                enum record_endpoint endpoint;
                const char *body;
        } cases[] = {
                        {ENDPOINT_CHAT,
                                        "{\"messages\":[],\"user\":\"%s\",\"metadata\":{\"who\":\"%s\"},\"prompt\":\"a@b.com\"}"},
                        {ENDPOINT_CHAT,
                                        "{\"messages\":[],\"tools\":[{\"function\":{\"name\":\"a@b.com\",\"description\":\"%s\","
                                        "\"parameters\":{\"properties\":{\"description\":{\"enum\":[\"a@b.com\"],\"description\":\"%s\"}}}}}]}"},
                        {ENDPOINT_COMPLETIONS, "{\"prompt\":[\"%s\",\"%s\"],\"messages\":\"a@b.com\"}"},
                        {ENDPOINT_COMPLETIONS, "{\"prompt\":[[1,2]],\"suffix\":\"%s\",\"user\":\"%s\"}"},
                        {ENDPOINT_EMBEDDINGS, "{\"input\":\"%s\",\"safety_identifier\":\"%s\",\"a\":[]}"},
                        {ENDPOINT_EMBEDDINGS, "{\"input\":[\"%s\",\"%s\"],\"prompt\":\"a@b.com\"}"},
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char body[512], want[512];
                fill(body, sizeof(body), cases[i].body, MAIL);
                fill(want, sizeof(want), cases[i].body, GONE);
                ck_assert_str_eq(out_of(body, "[", cases[i].endpoint), want);
        }
}
END_TEST

/* ---- escapes ---- */

START_TEST(finds_are_replaced_inside_of_escapes_whose_neighbours_stay_as_they_are_written) {
        chat("\"content\":\"\\u00e9\\/ \\\"a\\u0040b.c\\u006Fm\\\" \\ud83d\\ude00\\n\"",
                        "\"content\":\"\\u00e9\\/ \\\"<EMAIL_ADDRESS>\\\" \\ud83d\\ude00\\n\"");
        chat("\"content\":\"\\ud83d a@b.com \\udc00\"", "\"content\":\"\\ud83d <EMAIL_ADDRESS> \\udc00\"");
}
END_TEST

START_TEST(arguments_are_json_in_a_string_and_stay_so) {
        chat("\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"to\\\" : \\\"a\\\\u0040b.com\\\","
             "\\\"\\/\\\":[4012888888881881,12],\\\"a@b.com\\\":1}\"}}]",
                        "\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"to\\\" : \\\"<EMAIL_ADDRESS>\\\","
                        "\\\"\\/\\\":[\\\"<CREDIT_CARD>\\\",12],\\\"<EMAIL_ADDRESS>\\\":1}\"}}]");
        /* A key is its value's context; what is no JSON is a text. */
        chat("\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"passport\\\":\\\"912803456\\\"}\"}}]",
                        "\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"passport\\\":\\\"<US_PASSPORT>\\\"}\"}}]");
        chat("\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"to\\\":\\\"a@b.com\"}}]",
                        "\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"to\\\":\\\"<EMAIL_ADDRESS>\"}}]");
        use(false, false, 1);
        chat("\"tool_calls\":[{\"function\":{\"arguments\":\"[4012888888881881]\"}}]",
                        "\"tool_calls\":[{\"function\":{\"arguments\":\"[\\\"****************\\\"]\"}}]");
}
END_TEST

/* Texts written with escapes at random are redacted as the same texts written plainly. */
START_TEST(what_is_written_in_any_way_is_redacted_as_it_reads) {
        static const char *const words[] = {"a@b.com", "4012 8888 8888 1881", "plain ", "\xc3\xa9",
                        "\xf0\x9f\x98\x80", "\"", "\\", "\n", " ", "/", "x@", ".com"};
        unsigned seed = 7, n_found = 0;

        for (unsigned round = 0; round < 400; round++) {
                char text[256] = "", body[2048] = "{\"messages\":[{\"content\":\"";
                char said[512], twice[1024];
                uint32_t n;
                size_t at = strlen(body);
                struct json_text first, second;
                for (unsigned i = 0; i < 8; i++)
                        strncat(text, words[rand_r(&seed) % 12], sizeof(text) - strlen(text) - 1);
                for (const char *p = text; *p; p++) {
                        bool ascii = !(*p & 0x80);
                        if (ascii && (strchr("\"\\\n", *p) || rand_r(&seed) % 3 == 0))
                                at += (size_t)snprintf(body + at, sizeof(body) - at, "\\u%04X", *p);
                        else
                                body[at++] = *p;
                }
                snprintf(body + at, sizeof(body) - at, "\"}]}");
                const char *out = out_of(body, "{", ENDPOINT_CHAT);
                ck_assert_int_eq(strncmp(out, body, 24), 0);
                first = (struct json_text){strstr(out, ":\"") + 1, 0};
                first.n = (uint32_t)strlen(first.p) - 3;
                ck_assert_int_eq(json_unescape(first.p, first.n, said, sizeof(said) - 1, &n), 0);
                said[n] = 0;
                /* The same text, written plainly. */
                struct json_buf plain = {.at = twice, .cap = sizeof(twice) - 1};
                json_put_text(&plain, "{\"messages\":[{\"content\":");
                json_put_string(&plain, text, (uint32_t)strlen(text));
                json_put_text(&plain, "}]}");
                twice[plain.len] = 0;
                out = out_of(twice, "{", ENDPOINT_CHAT);
                second = (struct json_text){strstr(out, ":\"") + 1, 0};
                second.n = (uint32_t)strlen(second.p) - 3;
                ck_assert_int_eq(json_unescape(second.p, second.n, twice, sizeof(twice) - 1, &n), 0);
                twice[n] = 0;
                ck_assert_str_eq(said, twice);
                n_found += strstr(said, GONE) != NULL;
        }
        ck_assert_uint_gt(n_found, 100);
}
END_TEST

/* ---- pieces ---- */

START_TEST(a_find_that_lies_in_two_pieces_is_replaced_once) {
        static const char body[] = "{\"messages\":[{\"content\":\"mail @b.com now\"}]}";
        struct body_marks marks = {0};
        struct record record = record_of(body, &marks, "\"mail @b.com now\"");
        uint32_t middle = at(body, "@b.com");
        msgpack_object spans[2][2], items[3];

        for (unsigned i = 0; i < 2; i++)
                for (unsigned k = 0; k < 2; k++)
                        spans[i][k].type = MSGPACK_OBJECT_POSITIVE_INTEGER;
        spans[0][0].via.u64 = 0;
        spans[0][1].via.u64 = spans[1][0].via.u64 = middle;
        spans[1][1].via.u64 = sizeof(body) - 1 - middle;
        items[0] = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = {2, spans[0]}};
        items[1] = (msgpack_object){.type = MSGPACK_OBJECT_BIN, .via.bin = {3, prompt.literal}};
        items[2] = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = {2, spans[1]}};
        memcpy(prompt.literal, "bob", 3);
        prompt.n_edits = 0;
        prompt.pieces = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = {3, items}};
        ck_assert_int_eq(redact_prompt(r, &prompt, &record, NULL, &note), 0);
        ck_assert_str_eq(whole(&record), "{\"messages\":[{\"content\":\"mail <EMAIL_ADDRESS> now\"}]}");
}
END_TEST

START_TEST(without_a_find_the_pieces_stay_and_nothing_is_noted) {
        ck_assert_str_eq(out_of("{\"messages\":[{\"content\":\"hello\"}]}", "\"hello\"", ENDPOINT_CHAT),
                        "{\"messages\":[{\"content\":\"hello\"}]}");
        ck_assert_uint_eq(prompt.pieces.via.array.size, 1);
        ck_assert_uint_eq(note.n, 0);
}
END_TEST

START_TEST(a_find_in_the_clients_bytes_says_which_bytes_it_was) {
        static const char body[] = "{\"messages\":[{\"content\":\"to a@b.com!\"}]}";
        const msgpack_object *piece;

        out_of(body, "\"to a@b.com!\"", ENDPOINT_CHAT);
        ck_assert_uint_eq(prompt.pieces.via.array.size, 3);
        piece = &prompt.pieces.via.array.ptr[1];
        ck_assert_uint_eq(piece->via.array.size, 3);
        ck_assert_uint_eq(piece->via.array.ptr[0].via.u64, at(body, "a@b.com"));
        ck_assert_uint_eq(piece->via.array.ptr[1].via.u64, 7);
}
END_TEST

/* ---- numbers, and what is noted ---- */

START_TEST(a_value_has_one_number_in_the_whole_prompt) {
        use(true, false, 0);
        chat("\"content\":\"a@b.com c@d.com\",\"tool_calls\":[{\"function\":{\"arguments\":\"[\\\"c@d.com\\\"]\"}}]",
                        "\"content\":\"<EMAIL_ADDRESS_1> <EMAIL_ADDRESS_2>\",\"tool_calls\":[{\"function\":{\"arguments\":"
                        "\"[\\\"<EMAIL_ADDRESS_2>\\\"]\"}}]");
}
END_TEST

static const msgpack_object *noted(void) {
        const msgpack_object *object = NULL;

        ck_assert_int_eq(record_raw_parse(&decoder, note.p, note.n, &object), 0);
        ck_assert_uint_eq(object->via.array.size, 2);
        return object;
}

START_TEST(what_the_client_sent_is_noted_to_be_put_back_and_what_documents_say_is_not) {
        static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"c@d.com?\"}]}";
        struct body_marks marks = {0};
        struct record record = record_of(body, &marks, "\"c@d.com?\"");
        const msgpack_object *values, *counts;

        use(false, true, 0);
        add_documents(&record, "doc a@b.com", "and c@d.com");
        record.has |= HAS(system);
        record.system = (struct mr_view){"for s@t.com", 11};
        ck_assert_int_eq(prompt_build(&prompt, &templates, &record, NULL, &wide), 0);
        ck_assert_int_eq(redact_prompt(r, &prompt, &record, NULL, &note), 0);
        ck_assert_ptr_null(strchr(whole(&record), '@'));
        counts = &noted()->via.array.ptr[0];
        ck_assert_uint_eq(counts->via.map.size, 1);
        ck_assert_uint_eq(counts->via.map.ptr[0].val.via.u64, 4);
        values = &noted()->via.array.ptr[1];
        ck_assert_uint_eq(values->via.array.size, 3);
        for (unsigned i = 0; i < 3; i++) {
                static const char *const wanted[] = {"s@t.com", NULL, "c@d.com"};
                const msgpack_object *row = values->via.array.ptr[i].via.array.ptr;
                ck_assert_uint_eq(row[1].via.u64, i + 1);
                ck_assert_int_eq(row[3].type, wanted[i] ? MSGPACK_OBJECT_STR : MSGPACK_OBJECT_NIL);
                if (wanted[i])
                        ck_assert_int_eq(strncmp(row[3].via.str.ptr, wanted[i], row[3].via.str.size), 0);
        }
}
END_TEST

START_TEST(more_values_than_have_room_are_replaced_and_stay_so) {
        static char body[65536];
        int n = snprintf(body, sizeof(body), "{\"messages\":[{\"content\":\"");

        use(false, true, 0);
        for (unsigned i = 0; i < 200; i++)
                n += snprintf(body + n, sizeof(body) - (size_t)n, "user%u@example.com ", i);
        snprintf(body + n, sizeof(body) - (size_t)n, "\"}]}");
        const char *out = out_of(body, "{", ENDPOINT_CHAT);
        ck_assert_ptr_null(strchr(out, '@'));
        ck_assert_ptr_nonnull(strstr(out, "<EMAIL_ADDRESS_64> <EMAIL_ADDRESS> "));
        ck_assert_uint_eq(noted()->via.array.ptr[1].via.array.size, REDACT_NUMBERS);
        ck_assert_uint_le(note.n, REDACT_PROMPT_VALUES + 8192);
}
END_TEST

int main(void) {
        static char builtin[] = "builtin";
        const struct settings none = {.assemble = {.default_template = builtin}};
        Suite *suite = suite_create("redact_prompt");
        TCase *tc = tcase_create("redact_prompt");
        SRunner *runner;
        int failed;

        if (prompt_init(&prompt, no_pages) || templates_init(&templates, &none))
                return EXIT_FAILURE;
        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_set_timeout(tc, 120);
        tcase_add_test(tc, what_cannot_be_walked_is_not_sent);
        tcase_add_test(tc, what_blocks_is_refused_by_its_entity_and_never_by_its_text);
        tcase_add_test(tc, texts_of_messages_are_redacted_and_nothing_else);
        tcase_add_test(tc, texts_beside_messages_and_of_other_endpoints);
        tcase_add_test(tc, finds_are_replaced_inside_of_escapes_whose_neighbours_stay_as_they_are_written);
        tcase_add_test(tc, arguments_are_json_in_a_string_and_stay_so);
        tcase_add_test(tc, what_is_written_in_any_way_is_redacted_as_it_reads);
        tcase_add_test(tc, a_find_that_lies_in_two_pieces_is_replaced_once);
        tcase_add_test(tc, without_a_find_the_pieces_stay_and_nothing_is_noted);
        tcase_add_test(tc, a_find_in_the_clients_bytes_says_which_bytes_it_was);
        tcase_add_test(tc, a_value_has_one_number_in_the_whole_prompt);
        tcase_add_test(tc, what_the_client_sent_is_noted_to_be_put_back_and_what_documents_say_is_not);
        tcase_add_test(tc, more_values_than_have_room_are_replaced_and_stay_so);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        prompt_close(&prompt);
        templates_close(&templates);
        return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
