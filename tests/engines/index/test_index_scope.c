/*
 * index -- which documents a query may find: collections, tenants, metadata.
 */
#include "tests/engines/index/test_index.h"

#include "stages/engines/index/metadata.h"

static void put_in(struct index_writer *writer, const char *collection, const char *tenant,
                const char *id, const char *metadata) {
        static const char text[] = "A word on granite.";
        const struct chunk chunk = {.start = 0, .end = sizeof(text) - 1};
        const struct index_document doc = {.key = {str(collection), str(tenant), str(id)},
                        .metadata = str(metadata),
                        .text = str(text),
                        .chunks = &chunk,
                        .n_chunks = 1};
        enum index_outcome outcome;
        struct index_error err = {0};

        ck_assert_msg(index_writer_add(writer, &doc, &err, &outcome) == 0, "%s", err.text);
        ck_assert_int_eq(outcome, INDEX_ADDED);
}

/* The ids that a query within the scope finds, sorted, a blank behind each. */
static void found_is(const struct index_scope *scope, const char *ids) {
        struct index_reader *reader = reader_open();
        const struct index_query query = {.text = str("granite"), .scope = *scope, .k = 50};
        struct index_result *result = NULL;
        struct index_error err = {0};
        char found[256] = "";

        ck_assert_msg(index_reader_query(reader, &query, &err, &result) == 0, "%s", err.text);
        for (char c = 'a'; c <= 'z'; c++)
                for (size_t i = 0; i < index_result_n(result); i++)
                        if (index_result_hit(result, i)->key.id.data[0] == c) {
                                strcat(found, index_result_hit(result, i)->key.id.data);
                                strcat(found, " ");
                        }
        ck_assert_str_eq(found, ids);
        index_result_free(result);
        index_reader_free(reader);
}

START_TEST(names_that_are_none_are_refused) {
        struct index_writer *writer = writer_open();
        const struct chunk chunk = {.start = 0, .end = 4};
        char name[300];

        memset(name, 'n', sizeof(name));
        struct index_document doc = {.key.id = str("a"),
                        .text = str("word"),
                        .chunks = &chunk,
                        .n_chunks = 1};
        const struct index_key bad[] = {{.id = str("a"), .collection = {name, 65}},
                        {.id = str("a"), .collection = {"a\0b", 3}},
                        {.id = str("a"), .tenant = {name, 257}},
                        {.id = str("a"), .tenant = {"a\0b", 3}}};
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
                enum index_outcome outcome;
                struct index_error err = {0};

                doc.key = bad[i];
                ck_assert_int_eq(index_writer_add(writer, &doc, &err, &outcome), INDEX_E_DOCUMENT);
                ck_assert_uint_gt(strlen(err.text), 0);
        }
        index_writer_free(writer);
}
END_TEST

START_TEST(a_collection_is_searched_alone_or_with_others) {
        struct index_writer *writer = writer_open();
        const struct index_str names[] = {str("notes"), str("default"), str("none")};
        bool removed = false;

        put_in(writer, "", "", "a", "");
        put_in(writer, "notes", "", "b", "");
        put_in(writer, "notes", "", "a", "");
        put_in(writer, "books", "", "c", "");
        commit(writer);
        ck_assert_uint_eq(index_writer_stats(writer).documents, 4);
        found_is(&(struct index_scope){0}, "a a b c ");
        found_is(&(struct index_scope){.asked.collections = names, .asked.n_collections = 1}, "a b ");
        found_is(&(struct index_scope){.asked.collections = names, .asked.n_collections = 2}, "a a b ");
        found_is(&(struct index_scope){.asked.collections = names + 1, .asked.n_collections = 1}, "a ");
        found_is(&(struct index_scope){.asked.collections = names + 2, .asked.n_collections = 1}, "");
        const struct index_key key = {.collection = str("notes"), .id = str("a")};
        ck_assert_int_eq(index_writer_remove(writer, &key, NULL, &removed), 0);
        ck_assert(removed);
        commit(writer);
        found_is(&(struct index_scope){0}, "a b c ");
        index_writer_free(writer);
}
END_TEST

START_TEST(what_belongs_to_a_tenant_nobody_else_finds) {
        struct index_writer *writer = writer_open();
        const struct index_str notes = str("notes");
        char name[256];

        memset(name, 'n', sizeof(name));
        const struct index_str longest = {name, sizeof(name)};
        put_in(writer, "", "", "a", "");
        found_is(&(struct index_scope){.tenant = str("ann")}, "");
        commit(writer);
        found_is(&(struct index_scope){.tenant = str("ann")}, "a ");
        put_in(writer, "", "ann", "b", "");
        put_in(writer, "notes", "ann", "a", "");
        put_in(writer, "notes", "bob", "a", "");
        put_in(writer, "", "anna", "c", "");
        commit(writer);
        found_is(&(struct index_scope){0}, "a ");
        found_is(&(struct index_scope){.tenant = str("eve")}, "a ");
        found_is(&(struct index_scope){.tenant = str("ann")}, "a a b ");
        found_is(&(struct index_scope){.tenant = str("anna")}, "a c ");
        found_is(&(struct index_scope){.tenant = longest}, "a ");
        found_is(&(struct index_scope){.tenant = str("ann"), .asked.collections = &notes,
                                 .asked.n_collections = 1},
                        "a ");
        found_is(&(struct index_scope){.asked.collections = &notes, .asked.n_collections = 1}, "");
        index_writer_free(writer);
}
END_TEST

START_TEST(documents_are_filtered_by_their_metadata) {
        struct index_writer *writer = writer_open();
        const struct index_pair english = {str("lang"), str("en")};
        const struct index_pair either[] = {english, {str("lang"), str("de")}};
        const struct index_pair both[] = {english, {str("year"), str("2024")}};
        const struct index_pair tag[] = {{str("tags"), str("new")}, {str("draft"), str("true")}};
        const struct index_pair deep[] = {{str("in"), str("x")}};

        put_in(writer, "", "", "a", "{\"lang\":\"en\",\"year\":2024}");
        put_in(writer, "", "", "b", "{\"lang\":\"de\",\"tags\":[\"old\",\"new\"],\"draft\":true}");
        put_in(writer, "", "", "c", "{\"lang\":\"en\",\"year\":2025,\"x\":{\"in\":\"x\"}}");
        put_in(writer, "", "", "d", "");
        put_in(writer, "", "", "e", "[\"lang\",\"en\"]");
        commit(writer);
        found_is(&(struct index_scope){.asked.pairs = &english, .asked.n_pairs = 1}, "a c ");
        found_is(&(struct index_scope){.asked.pairs = either, .asked.n_pairs = 2}, "a b c ");
        found_is(&(struct index_scope){.asked.pairs = both, .asked.n_pairs = 2}, "a ");
        found_is(&(struct index_scope){.asked.pairs = tag, .asked.n_pairs = 2}, "b ");
        found_is(&(struct index_scope){.asked.pairs = deep, .asked.n_pairs = 1}, "");
        /* What is allowed is never widened by what is asked for. */
        found_is(&(struct index_scope){.asked = {.pairs = either, .n_pairs = 2},
                                 .allowed = {.pairs = &english, .n_pairs = 1}},
                        "a c ");
        index_writer_free(writer);
}
END_TEST

static int count_pair(struct index_str key, struct index_str value, void *ctx) {
        ck_assert_ptr_nonnull(key.data);
        ck_assert_ptr_nonnull(value.data);
        return ++*(int *)ctx == 70 ? 77 : 0;
}

START_TEST(only_so_many_pairs_are_told_and_what_is_broken_tells_what_came_before) {
        char json[2048] = "{\"k\":[0";
        int n = 0;

        for (int i = 1; i < 200; i++)
                appendf(json, sizeof(json), strlen(json), ",%d", i);
        strcat(json, "]}");
        ck_assert_int_eq(metadata_each(str(json), count_pair, &n), 0);
        ck_assert_int_eq(n, METADATA_MAX);
        n = 69;
        ck_assert_int_eq(metadata_each(str(json), count_pair, &n), 77);
        n = 0;
        ck_assert_int_eq(metadata_each(str("{\"a\":1,\"b\":tru"), count_pair, &n), 0);
        ck_assert_int_eq(n, 1);
}
END_TEST

static int note_key(const struct index_entry *entry, void *ctx) {
        char *to = ctx;

        snprintf(to + strlen(to), 256 - strlen(to), "%s/%s/%s ", entry->key.collection.data,
                        entry->key.tenant.data, entry->key.id.data);
        return 0;
}

START_TEST(a_list_may_be_of_one_collection_or_tenant) {
        struct index_writer *writer = writer_open();
        const struct index_str notes = str("notes"), ann = str("ann"), nobody = str("");
        char told[256] = "";

        put_in(writer, "notes", "ann", "a", "");
        put_in(writer, "notes", "", "b", "");
        put_in(writer, "", "ann", "c", "");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        struct index_list list = {.fn = note_key, .ctx = told};
        ck_assert_int_eq(index_reader_list(reader, &list, NULL), 0);
        ck_assert_str_eq(told, "default/ann/c notes//b notes/ann/a ");
        list.collection = &notes;
        told[0] = '\0';
        ck_assert_int_eq(index_reader_list(reader, &list, NULL), 0);
        ck_assert_str_eq(told, "notes//b notes/ann/a ");
        list.tenant = &ann;
        told[0] = '\0';
        ck_assert_int_eq(index_reader_list(reader, &list, NULL), 0);
        ck_assert_str_eq(told, "notes/ann/a ");
        list.tenant = &nobody;
        told[0] = '\0';
        ck_assert_int_eq(index_reader_list(reader, &list, NULL), 0);
        ck_assert_str_eq(told, "notes//b ");
        index_reader_free(reader);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("index, scope");
        TCase *refusals = tcase_create("refusals");
        TCase *behaviour = tcase_create("behaviour");

        tcase_add_checked_fixture(refusals, folder_setup, folder_teardown);
        tcase_add_checked_fixture(behaviour, folder_setup, folder_teardown);
        tcase_set_timeout(refusals, 60);
        tcase_set_timeout(behaviour, 60);
        tcase_add_test(refusals, names_that_are_none_are_refused);
        tcase_add_test(behaviour, a_collection_is_searched_alone_or_with_others);
        tcase_add_test(behaviour, what_belongs_to_a_tenant_nobody_else_finds);
        tcase_add_test(behaviour, documents_are_filtered_by_their_metadata);
        tcase_add_test(behaviour,
                        only_so_many_pairs_are_told_and_what_is_broken_tells_what_came_before);
        tcase_add_test(behaviour, a_list_may_be_of_one_collection_or_tenant);
        suite_add_tcase(suite, refusals);
        suite_add_tcase(suite, behaviour);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
