/*
 * documents -- files, rows and folders, as they come out.
 */
#include "stages/engines/index/buffer.h"
#include "stages/engines/index/documents.h"
#include "stages/engines/index/metadata.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "stages/engines/index/chunk.h"
#include "tests/engines/index/test_folder.h"

#define NOTES 64

struct note {
        char id[300];
        char title[300];
        char url[100];
        char source[300];
        char metadata[100];
        char text[4096]; /* its beginning */
        size_t n_bytes;
        size_t n_chunks;
        char path[200]; /* of the last chunk */
        uint64_t row;
};

static struct note notes[NOTES];
static int n_notes;
static struct {
        char file[300];
        uint64_t row;
        char why[300];
} refusals[NOTES];
static int n_refusals;
static uint64_t n_read;
static int stop_at;

static void copy(char *to, size_t room, struct index_str from) {
        const size_t n = from.n_bytes < room - 1 ? from.n_bytes : room - 1;

        memcpy(to, from.data, n);
        to[n] = '\0';
}

static int on_document(const struct index_document *doc, uint64_t row, void *ctx) {
        struct note *note = &notes[n_notes++];

        (void)ctx;
        ck_assert_int_lt(n_notes, NOTES);
        copy(note->id, sizeof(note->id), doc->key.id);
        copy(note->title, sizeof(note->title), doc->title);
        copy(note->url, sizeof(note->url), doc->url);
        copy(note->source, sizeof(note->source), doc->source);
        copy(note->metadata, sizeof(note->metadata), doc->metadata);
        copy(note->text, sizeof(note->text), doc->text);
        copy(note->path, sizeof(note->path), doc->chunks[doc->n_chunks - 1].path);
        note->n_bytes = doc->text.n_bytes;
        note->n_chunks = doc->n_chunks;
        note->row = row;
        return n_notes == stop_at ? 55 : 0;
}

static void on_refused(const char *file, uint64_t row, const char *why, void *ctx) {
        (void)ctx;
        ck_assert_int_lt(n_refusals, NOTES);
        snprintf(refusals[n_refusals].file, sizeof(refusals[0].file), "%s", file);
        snprintf(refusals[n_refusals].why, sizeof(refusals[0].why), "%s", why);
        refusals[n_refusals++].row = row;
}

static void on_read(uint64_t n_bytes, void *ctx) {
        (void)ctx;
        n_read += n_bytes;
}

static int take(const char *path) {
        const struct documents_sink sink = {on_document, on_refused, on_read, NULL};

        n_notes = 0;
        n_refusals = 0;
        n_read = 0;
        return documents_read(path, &sink);
}

static void take_text(const char *name, const char *text) {
        ck_assert_int_eq(take(file_write(name, text, strlen(text))), 0);
}

/* The one complaint, and nothing taken. */
static void refused_because(uint64_t row, const char *part) {
        ck_assert_int_eq(n_notes, 0);
        ck_assert_int_eq(n_refusals, 1);
        ck_assert_uint_eq(refusals[0].row, row);
        ck_assert_msg(strstr(refusals[0].why, part) != NULL, "%s", refusals[0].why);
}

START_TEST(what_is_no_text_is_refused_with_the_reason) {
        ck_assert_int_eq(take(in_folder("nothing.txt")), 0);
        refused_because(0, "No such file");
        ck_assert_int_eq(take(file_write("a.txt", "ab\0cd", 5)), 0);
        refused_because(0, "binary");
        take_text("a.txt", "fine \xc3( not");
        refused_because(0, "byte 5");
        take_text("a.md", "\xff\xfe# x");
        refused_because(0, "UTF-16");
        take_text("a.txt", " \n\t ");
        refused_because(0, "no text");
        take_text("a.exe", "text");
        refused_because(0, "unknown kind");
        take_text("noending", "text");
        refused_because(0, "unknown kind");
        ck_assert_int_eq(mkfifo(in_folder("pipe.txt"), 0600), 0);
        ck_assert_int_eq(take(in_folder("pipe.txt")), 0);
        refused_because(0, "neither a file");
}
END_TEST

START_TEST(a_file_over_the_limit_is_refused_and_one_at_it_is_not) {
        const char *path = file_write("big.txt", "x", 1);

        ck_assert_int_eq(truncate(path, (off_t)DOCUMENTS_BYTES_MAX + 1), 0);
        ck_assert_int_eq(take(path), 0);
        refused_because(0, "64 MiB");
        ck_assert_int_eq(truncate(path, (off_t)1 << 40), 0); /* a hole of a terabyte */
        ck_assert_int_eq(take(path), 0);
        refused_because(0, "64 MiB");
        ck_assert_uint_lt(n_read, 2u * DOCUMENTS_BYTES_MAX);
}
END_TEST

START_TEST(bad_rows_are_named_and_the_others_go_in) {
        static const char rows[] = "{\"id\":\"a\",\"text\":\"one\"}\n"
                                   "{\"id\":\"b\",\"text\":\n"
                                   "[1,2]\n"
                                   "\n"
                                   "{\"text\":\"no id\"}\n"
                                   "{\"id\":\"c\"}\n"
                                   "{\"id\":\"d\",\"text\":5}\n"
                                   "{\"id\":\"e\",\"text\":\"t\",\"metadata\":[]}\n"
                                   "{\"id\":\"f\",\"text\":\"bad \xff\"}\n"
                                   "{\"id\":\"g\",\"text\":\"\",\"title\":\" \"}\n"
                                   "{\"id\":\"h\",\"text\":\"x\"} trailing\n"
                                   "{\"id\":{},\"text\":\"x\"}\r\n"
                                   "{\"id\":\"z\",\"text\":\"last, without a line break\"}";
        static const struct {
                uint64_t row;
                const char *why;
        } expected[] = {{2, "parse error"}, {3, "must be an object"}, {5, "no \"id\""},
                        {6, "no \"text\""}, {7, "\"text\" must be a string"},
                        {8, "\"metadata\" must be an object"}, {9, "UTF8"}, {10, "no text"},
                        {11, "trailing garbage"}, {12, "\"id\" must be"}};
        char *path = strdup(file_write("rows.jsonl", rows, sizeof(rows) - 1));

        ck_assert_int_eq(take(path), 0);
        ck_assert_int_eq(n_notes, 2);
        ck_assert_str_eq(notes[0].id, "a");
        ck_assert_str_eq(notes[1].id, "z");
        ck_assert_uint_eq(notes[1].row, 13);
        ck_assert_int_eq(n_refusals, 10);
        for (int i = 0; i < n_refusals; i++) {
                ck_assert_str_eq(refusals[i].file, path);
                ck_assert_uint_eq(refusals[i].row, expected[i].row);
                ck_assert_msg(strstr(refusals[i].why, expected[i].why) != NULL, "%d %s", i,
                                refusals[i].why);
        }
        ck_assert_uint_eq(n_read, sizeof(rows) - 1);
        free(path);
}
END_TEST

START_TEST(a_row_too_deep_is_refused) {
        char row[400] = "{\"id\":\"a\",\"text\":\"t\",\"x\":";

        memset(row + strlen(row), '[', 100);
        take_text("deep.jsonl", row);
        refused_because(1, "deeper");
}
END_TEST

START_TEST(a_row_over_the_limit_is_refused_and_the_next_is_found) {
        const char *path = in_folder("long.jsonl");
        FILE *file = fopen(path, "w");
        static char block[1 << 20];

        ck_assert_ptr_nonnull(file);
        memset(block, 'x', sizeof(block));
        fputs("{\"id\":\"a\",\"text\":\"t\"}\n{\"id\":\"long\",\"text\":\"", file);
        for (int i = 0; i < 65; i++)
                fwrite(block, 1, sizeof(block), file);
        fputs("\"}\n{\"id\":\"b\",\"text\":\"t\"}\n", file);
        ck_assert_int_eq(fclose(file), 0);
        ck_assert_int_eq(take(path), 0);
        ck_assert_int_eq(n_notes, 2);
        ck_assert_str_eq(notes[1].id, "b");
        ck_assert_uint_eq(notes[1].row, 3);
        ck_assert_int_eq(n_refusals, 1);
        ck_assert_uint_eq(refusals[0].row, 2);
        ck_assert_ptr_nonnull(strstr(refusals[0].why, "64 MiB"));
}
END_TEST

START_TEST(a_row_has_its_strings_decoded_and_its_metadata_as_it_was) {
        take_text("rows.jsonl",
                        "\xef\xbb\xbf{\"id\": 12.50, \"title\":\"T\\u00e9\", \"metadata\": {\"a\": "
                        "[1, {\"b\":null}]} ,"
                        "\"url\":null,\"other\":{\"text\":\"inner\"},\"text\":\"one\\ntwo\"}\n"
                        "{\"id\":\"x\",\"text\":\"old\",\"text\":\"new\",\"metadata\":null,"
                        "\"title\":null}\n");
        ck_assert_int_eq(n_refusals, 0);
        ck_assert_int_eq(n_notes, 2);
        ck_assert_str_eq(notes[0].id, "12.50");
        ck_assert_str_eq(notes[0].title, "T\xc3\xa9");
        ck_assert_str_eq(notes[0].metadata, "{\"a\": [1, {\"b\":null}]}");
        ck_assert_str_eq(notes[0].url, "");
        ck_assert_str_eq(notes[0].text, "one\ntwo");
        ck_assert_str_eq(notes[1].text, "new");
        ck_assert_str_eq(notes[1].metadata, "");
        ck_assert_str_eq(notes[1].title, "");
}
END_TEST

START_TEST(markdown_keeps_its_bytes_and_names_its_headings) {
        static char text[8000];
        size_t n = appendf(text, sizeof(text), 0,
                        "---\ntitle: ignored\n---\n"
                        "The *Guide* to `it`\n=====\n\nIntro &amp; more.\n\n## Set up\n\n");

        for (int i = 0; i < 100; i++)
                n = appendf(text, sizeof(text), n, "Step %d is like the step before it. ", i);
        take_text("guide.md", text);
        ck_assert_int_eq(n_refusals, 0);
        ck_assert_int_eq(n_notes, 1);
        ck_assert_str_eq(notes[0].title, "The Guide to it");
        ck_assert_str_eq(notes[0].path, "The Guide to it > Set up");
        ck_assert_uint_eq(notes[0].n_bytes, n);
        ck_assert_uint_gt(notes[0].n_chunks, 2);
        ck_assert_int_eq(strncmp(notes[0].text, text, 4000), 0);
        take_text("plain.md", "No heading here.\n\n- one\n- two\n\n> quoted\n");
        ck_assert_str_eq(notes[0].title, "plain.md");
}
END_TEST

START_TEST(html_gives_the_text_that_a_browser_shows) {
        take_text("page.html",
                        "<!DOCTYPE html><html><head><title> The\n page "
                        "</title><style>p{color:red}</style></head>"
                        "<body><script>if (a < b) alert('no');</script><h1>Big  <em>head</em></h1>"
                        "<p>One &amp; two,<br>three &eacute;.</p><ul><li>first<li>second</ul>"
                        "<pre>  kept\n    "
                        "so</pre><table><tr><td>a</td><td>b</td></tr></table>tail</body></html>");
        ck_assert_int_eq(n_refusals, 0);
        ck_assert_int_eq(n_notes, 1);
        ck_assert_str_eq(notes[0].title, "The page");
        ck_assert_str_eq(notes[0].text,
                        "Big head\n\nOne & two,\nthree \xc3\xa9.\n\nfirst\nsecond\n\n  kept\n    "
                        "so\n\na b\n\ntail");
        take_text("page.htm", "<h2>Only a head</h2><p>text");
        ck_assert_str_eq(notes[0].title, "Only a head");
        take_text("page.html", "<html><body>no title</body>");
        ck_assert_str_eq(notes[0].title, "page.html");
}
END_TEST

START_TEST(html_may_name_its_encoding_and_without_a_name_must_be_utf8) {
        take_text("l1.html", "<meta charset=\"iso-8859-1\"><p>caf\xe9</p>");
        ck_assert_int_eq(n_refusals, 0);
        ck_assert_str_eq(notes[0].text, "caf\xc3\xa9");
        take_text("bad.html", "<p>caf\xe9</p>");
        refused_because(0, "broken UTF-8");
        /* bytes that are UTF-8 are taken so, whatever the page claims */
        take_text("lie.html", "<meta charset=\"iso-8859-1\"><p>caf\xc3\xa9</p>");
        ck_assert_str_eq(notes[0].text, "caf\xc3\xa9");
}
END_TEST

START_TEST(broken_html_is_read_as_far_as_it_goes) {
        static const char *const pages[] = {"<", "<p", "</p></p></b>x", "<title>x",
                        "<h1><h2>a</h1>b</h2>c", "<script>x", "<pre><pre>a</pre>b</pre>",
                        "&#0;&#xffffffff;&bogus;x", "<p \"'<>>x", "<!-- <p>", "<![CDATA[x]]>y"};

        for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
                take_text("broken.html", pages[i]);
                ck_assert_int_eq(n_notes + n_refusals, 1);
        }
}
END_TEST

START_TEST(a_folder_is_read_in_order_without_what_is_hidden_or_linked) {
        mkdir(in_folder("d"), 0700);
        mkdir(in_folder("d/sub"), 0700);
        mkdir(in_folder("d/.git"), 0700);
        file_write("d/b.txt", "b", 1);
        file_write("d/a.md", "a", 1);
        file_write("d/image.png", "\0", 1);
        file_write("d/.hidden.txt", "h", 1);
        file_write("d/.git/x.txt", "h", 1);
        file_write("d/sub/c.TXT", "c", 1);
        file_write("d/sub/rows.jsonl", "{\"id\":\"r\",\"text\":\"r\"}", 21);
        ck_assert_int_eq(symlink("/etc/passwd", in_folder("d/link.txt")), 0);
        ck_assert_int_eq(symlink("..", in_folder("d/sub/loop")), 0);
        char path[256];
        snprintf(path, sizeof(path), "%s/./d//", test_folder);
        ck_assert_int_eq(take(path), 0);
        ck_assert_int_eq(n_refusals, 0);
        ck_assert_int_eq(n_notes, 4);
        ck_assert_str_eq(notes[0].id, in_folder("d/a.md"));
        ck_assert_str_eq(notes[1].id, in_folder("d/b.txt"));
        ck_assert_str_eq(notes[2].id, in_folder("d/sub/c.TXT"));
        ck_assert_str_eq(notes[3].id, "r");
        ck_assert_str_eq(notes[3].source, in_folder("d/sub/rows.jsonl"));
        ck_assert_uint_eq(documents_bytes(path), n_read);
}
END_TEST

START_TEST(standard_input_is_rows_or_plain_text) {
        static const char *const inputs[] = {
                        " \n {\"id\":\"r\",\"text\":\"row\"}\n", "plain {text}\nof two lines"};
        const int kept = dup(STDIN_FILENO);

        for (int i = 0; i < 2; i++) {
                const int fd = open(file_write("in", inputs[i], strlen(inputs[i])), O_RDONLY);
                ck_assert_int_eq(dup2(fd, STDIN_FILENO), STDIN_FILENO);
                close(fd);
                ck_assert_int_eq(take("-"), 0);
                ck_assert_int_eq(n_notes, 1);
                ck_assert_str_eq(notes[0].id, i == 0 ? "r" : "-");
                ck_assert_str_eq(notes[0].text, i == 0 ? "row" : inputs[1]);
        }
        dup2(kept, STDIN_FILENO);
        close(kept);
}
END_TEST

START_TEST(reading_stops_where_the_sink_says) {
        stop_at = 2;
        const char *path = file_write("rows.jsonl",
                        "{\"id\":\"1\",\"text\":\"a\"}\n{\"id\":\"2\",\"text\":\"a\"}\n{\"id\":"
                        "\"3\",\"text\":\"a\"}\n",
                        66);
        ck_assert_int_eq(take(path), 55);
        ck_assert_int_eq(n_notes, 2);
        stop_at = 0;
}
END_TEST

START_TEST(ids_of_files_are_normal_paths) {
        static const char *const cases[][2] = {{"a.txt", "a.txt"}, {"./a.txt", "a.txt"},
                        {".//a//b/./c.txt", "a/b/c.txt"}, {"/x//y/", "/x/y"}, {"../a", "../a"},
                        {"/", "/"}, {".hidden/a", ".hidden/a"}};
        char buf[64];

        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                ck_assert_int_eq(documents_id(cases[i][0], buf, sizeof(buf)), 0);
                ck_assert_str_eq(buf, cases[i][1]);
        }
        ck_assert_int_eq(documents_id("abcdef", buf, 6), -ENAMETOOLONG);
}
END_TEST

START_TEST(utf8_is_what_the_standard_says) {
        static const char *const good[] = {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80",
                        "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
        static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf",
                        "\xed\xa0\x80", "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
                        "\xf5\x80\x80\x80", "\xff", "\xf0\x90\x80"};

        for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
                ck_assert_uint_eq(documents_utf8_end(str(good[i])), strlen(good[i]));
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                ck_assert_uint_eq(documents_utf8_end(str(bad[i])), 0);
}
END_TEST

static void front_gives(const char *yaml, const char *metadata, const char *title) {
        char text[2048];

        snprintf(text, sizeof(text), "---\n%s---\nThe text.\n", yaml);
        take_text("f.md", text);
        ck_assert_int_eq(n_notes, 1);
        ck_assert_str_eq(notes[0].metadata, metadata);
        ck_assert_str_eq(notes[0].title, title);
        ck_assert_str_eq(notes[0].text, text);
}

START_TEST(front_matter_that_is_no_map_or_broken_gives_nothing) {
        front_gives("", "", "f.md");
        front_gives("- a\n- b\n", "", "f.md");
        front_gives("only a text\n", "", "f.md");
        front_gives("title: x\na: [1, 2\n", "", "f.md");
        front_gives("a: *nobody\n", "", "f.md");
        front_gives("empty:\nlist: []\n", "{\"list\":[]}", "f.md");
}
END_TEST

START_TEST(front_matter_is_metadata_and_the_title_where_no_heading_is) {
        front_gives("title: A \"title\"\nyear: 2024\ndraft: false\n",
                        "{\"title\":\"A \\\"title\\\"\",\"year\":\"2024\",\"draft\":\"false\"}",
                        "A \"title\"");
        front_gives("tags: [a, b, {c: d}]\nnested: {a: b}\n? [x]\n: y\nlast: 'z'\n",
                        "{\"tags\":[\"a\",\"b\"],\"last\":\"z\"}", "f.md");
        take_text("h.md", "---\ntitle: Said\n---\n# Heading\n\nText.\n");
        ck_assert_str_eq(notes[0].title, "Heading");
        take_text("n.md", "---\nyear: 1\n---"); /* no line ends the last one */
        ck_assert_str_eq(notes[0].metadata, "{\"year\":\"1\"}");
}
END_TEST

static void joined_is(const char *json, const struct index_pair *pairs, size_t n, const char *is) {
        struct buffer joined = {0};

        ck_assert_int_eq(metadata_join(str(json), pairs, n, &joined), 0);
        ck_assert_int_eq(buffer_append(&joined, "", 1), 0);
        ck_assert_str_eq(joined.data, is);
        buffer_clear(&joined);
}

START_TEST(what_a_document_says_itself_comes_before_what_is_said_of_it) {
        const struct index_pair pairs[] = {{str("team"), str("a")}, {str("year"), str("1")},
                        {str("team"), str("b\"")}};

        joined_is("", pairs, 3, "{\"team\":[\"a\",\"b\\\"\"],\"year\":\"1\"}");
        joined_is("{}", pairs, 1, "{\"team\":\"a\"}");
        joined_is(" { } ", pairs, 2, "{\"team\":\"a\",\"year\":\"1\"}");
        joined_is("{\"year\":2024}", pairs, 3, "{\"year\":2024,\"team\":[\"a\",\"b\\\"\"]}");
        joined_is("{\"team\":\"z\"}", pairs, 1, "{\"team\":\"z\"}");
        joined_is("{\"x\":{\"y\":1}}", pairs, 0, "{\"x\":{\"y\":1}}");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("documents");
        TCase *refused = tcase_create("refusals");
        TCase *taken = tcase_create("behaviour");

        tcase_add_checked_fixture(refused, folder_setup, folder_teardown);
        tcase_add_checked_fixture(taken, folder_setup, folder_teardown);
        tcase_set_timeout(refused, 60);
        tcase_set_timeout(taken, 60);
        tcase_add_test(refused, what_is_no_text_is_refused_with_the_reason);
        tcase_add_test(refused, a_file_over_the_limit_is_refused_and_one_at_it_is_not);
        tcase_add_test(refused, bad_rows_are_named_and_the_others_go_in);
        tcase_add_test(refused, a_row_too_deep_is_refused);
        tcase_add_test(refused, a_row_over_the_limit_is_refused_and_the_next_is_found);
        tcase_add_test(taken, a_row_has_its_strings_decoded_and_its_metadata_as_it_was);
        tcase_add_test(taken, markdown_keeps_its_bytes_and_names_its_headings);
        tcase_add_test(taken, html_gives_the_text_that_a_browser_shows);
        tcase_add_test(taken, html_may_name_its_encoding_and_without_a_name_must_be_utf8);
        tcase_add_test(taken, broken_html_is_read_as_far_as_it_goes);
        tcase_add_test(taken, a_folder_is_read_in_order_without_what_is_hidden_or_linked);
        tcase_add_test(taken, standard_input_is_rows_or_plain_text);
        tcase_add_test(taken, reading_stops_where_the_sink_says);
        tcase_add_test(taken, ids_of_files_are_normal_paths);
        tcase_add_test(taken, utf8_is_what_the_standard_says);
        tcase_add_test(taken, front_matter_that_is_no_map_or_broken_gives_nothing);
        tcase_add_test(taken, front_matter_is_metadata_and_the_title_where_no_heading_is);
        tcase_add_test(taken, what_a_document_says_itself_comes_before_what_is_said_of_it);
        suite_add_tcase(suite, refused);
        suite_add_tcase(suite, taken);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
