/* figures and prometheus: sums over pages, the two text formats, docs/metrics.md against them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pages.h"
#include "stages/telemetry/prometheus.h"

static const char *document_path;
static struct pages pages;
static struct text text;

static void setup(void) {
        pages = pages_new();
        pages.figures.pages = (const struct counters_shm *const *)pages.page;
        text = (struct text){0};
}

static void teardown(void) {
        text_close(&text);
        pages_close(&pages);
}

static const char *written(enum prometheus_format format) {
        text_reset(&text);
        prometheus_write(&text, &pages.figures, format);
        text_add(&text, "", 1);
        ck_assert(!text.failed);
        return text.at;
}

static bool has_line(const char *all, const char *line) {
        size_t n = strlen(line);

        for (const char *at = strstr(all, line); at; at = strstr(at + 1, line))
                if ((at == all || at[-1] == '\n') && at[n] == '\n')
                        return true;
        return false;
}

#define HAS_LINE(line) ck_assert_msg(has_line(written(PROMETHEUS_TEXT), line), "missing: %s", line)

/* ---- what is not there ---- */

START_TEST(processes_without_a_page_count_nothing) {
        struct figures none = pages.figures;
        static const struct counters_shm *const no_pages[PROCS_MAX];

        none.pages = no_pages;
        ck_assert_uint_eq(figures_sum(&none, FIGURES_ROLE_ANY, FIGURES_LANE_ANY, COUNTER_admitted),
                        0);
        ck_assert(!figures_up(&none, ROLE_RAG, 0));
        ck_assert_uint_eq(figures_restarts(&none, ROLE_RAG, 0), 0);
        prometheus_write(&text, &none, PROMETHEUS_TEXT);
        ck_assert(text.len > 0 && !text.failed);
}
END_TEST

START_TEST(a_topology_with_more_processes_than_pages_is_not_believed) {
        pages.topology->n_procs = UINT32_MAX;
        pages.topology->n_rings = 0;
        ck_assert_uint_eq(figures_restarts(&pages.figures, ROLE_TELEMETRY, FIGURES_LANE_ANY), 0);
}
END_TEST

START_TEST(pages_full_of_ones_are_written_too) {
        for (uint32_t p = 0; p < PROCS_MAX; p++)
                if (pages.page[p])
                        memset(pages.page[p], 0xff, sizeof(*pages.page[p]));
        written(PROMETHEUS_OPENMETRICS);
        HAS_LINE("millrace_requests_admitted_total 18446744073709551615");
}
END_TEST

/* ---- sums ---- */

START_TEST(requests_are_summed_over_gateways) {
        struct counters_shm spare;

        memcpy(&spare, pages.page[0], sizeof(spare));
        counters_add(pages.page[0], COUNTER_completed, 5);
        counters_add(&spare, COUNTER_completed, 2);
        counters_add(pages.page[0], COUNTER_failed, 1);
        counters_add(pages.page[0], COUNTER_cancelled, 3);
        counters_add(pages.page[0], COUNTER_shed_door, 7);
        counters_add(pages_stage(&pages, 0, ROLE_RAG), COUNTER_completed, 100);
        pages.page[1] = &spare;
        HAS_LINE("millrace_requests_total{outcome=\"completed\",class=\"2xx\"} 7");
        HAS_LINE("millrace_requests_total{outcome=\"failed\",class=\"-\"} 1");
        HAS_LINE("millrace_requests_total{outcome=\"cancelled\",class=\"4xx\"} 3");
        HAS_LINE("millrace_requests_shed_total{reason=\"door\"} 7");
        pages.page[1] = NULL;
}
END_TEST

START_TEST(what_is_in_flight_is_told_by_lane) {
        atomic_store(&pages.page[0]->lane_in_flight[1], 4);
        HAS_LINE("millrace_requests_in_flight{lane=\"0\"} 0");
        HAS_LINE("millrace_requests_in_flight{lane=\"1\"} 4");
}
END_TEST

START_TEST(rings_are_told_by_stage_and_lane) {
        counters_set(pages_stage(&pages, 1, ROLE_POST), COUNTER_ring_depth, 9);
        HAS_LINE("millrace_ring_records{ring=\"post\",lane=\"1\"} 9");
        HAS_LINE("millrace_ring_records{ring=\"post\",lane=\"0\"} 0");
        HAS_LINE("millrace_ring_capacity{ring=\"rag\",lane=\"0\"} 100");
        HAS_LINE("millrace_ring_capacity{ring=\"stream\",lane=\"1\"} 500");
}
END_TEST

START_TEST(redactions_are_told_by_entity_where_there_were_any) {
        atomic_store(&pages_stage(&pages, 0, ROLE_POST)->redactions[0], 2);
        atomic_store(&pages_stage(&pages, 1, ROLE_POST)->redactions[0], 3);
        atomic_store(&pages_stage(&pages, 1, ROLE_POST)->redactions[COUNTERS_REDACTIONS - 1], 1);
        HAS_LINE("millrace_redactions_total{entity=\"CREDIT_CARD\"} 5");
        HAS_LINE("millrace_redactions_total{entity=\"own\"} 1");
        ck_assert_ptr_null(strstr(written(PROMETHEUS_TEXT), "IBAN_CODE"));
}
END_TEST

START_TEST(doorbells_and_dead_letters_are_summed_over_lanes) {
        counters_add(pages_stage(&pages, 0, ROLE_INFERENCE), COUNTER_doorbells, 2);
        counters_add(pages_stage(&pages, 1, ROLE_INFERENCE), COUNTER_doorbells, 3);
        counters_add(pages_stage(&pages, 1, ROLE_RAG), COUNTER_dead_letters, 1);
        HAS_LINE("millrace_doorbells_total{ring=\"inference\"} 5");
        HAS_LINE("millrace_dead_letters_total{stage=\"rag\"} 1");
}
END_TEST

START_TEST(tokens_backends_connections_and_the_log_are_told) {
        counters_add(pages_stage(&pages, 0, ROLE_INFERENCE), COUNTER_tokens_completion, 11);
        counters_add(pages_stage(&pages, 1, ROLE_INFERENCE), COUNTER_upstream_timeout, 2);
        counters_set(pages.page[0], COUNTER_connections_socket, 6);
        counters_add(pages_stage(&pages, 1, ROLE_STREAM), COUNTER_tripwire, 1);
        counters_set(pages_stage(&pages, 1, ROLE_STREAM), COUNTER_log_used, 8192);
        HAS_LINE("millrace_tokens_total{type=\"completion\",model=\"all\"} 11");
        HAS_LINE("millrace_upstream_requests_total{worker=\"all\",outcome=\"timeout\"} 2");
        HAS_LINE("millrace_connections{surface=\"socket\"} 6");
        HAS_LINE("millrace_tripwire_total 1");
        HAS_LINE("millrace_log_used_bytes{lane=\"1\"} 8192");
}
END_TEST

/* ---- life and death ---- */

START_TEST(a_process_is_up_while_its_heartbeat_is_fresh) {
        struct counters_shm *rag = pages_stage(&pages, 0, ROLE_RAG);

        HAS_LINE("millrace_stage_up{stage=\"rag\",lane=\"0\"} 1");
        atomic_store(&rag->heartbeat_ns, PAGES_NOW_NS - pages.figures.heartbeat_timeout_ns);
        HAS_LINE("millrace_stage_up{stage=\"rag\",lane=\"0\"} 0");
        atomic_store(&rag->heartbeat_ns, PAGES_NOW_NS + 5); /* it beat after we read the clock */
        HAS_LINE("millrace_stage_up{stage=\"rag\",lane=\"0\"} 1");
        atomic_store(&rag->crash_signal, 11);
        HAS_LINE("millrace_stage_up{stage=\"rag\",lane=\"0\"} 0");
        HAS_LINE("millrace_stage_up{stage=\"rag\",lane=\"1\"} 1");
        HAS_LINE("millrace_stage_up{stage=\"telemetry\",lane=\"-\"} 1");
        HAS_LINE("millrace_stage_up{stage=\"watch\",lane=\"-\"} 1");
        pages.figures.watched = false; /* none is missed where none is wanted */
        ck_assert_ptr_null(strstr(written(PROMETHEUS_TEXT), "millrace_stage_up{stage=\"watch\""));
}
END_TEST

START_TEST(a_lanes_state_and_its_resets_are_told) {
        HAS_LINE("millrace_lane_up{lane=\"1\"} 1");
        HAS_LINE("millrace_lane_resets_total{lane=\"1\"} 0");
        atomic_store(&pages.topology->lane_state[1], lane_word(LANE_DOWN, 3));
        HAS_LINE("millrace_lane_up{lane=\"0\"} 1");
        HAS_LINE("millrace_lane_up{lane=\"1\"} 0");
        HAS_LINE("millrace_lane_resets_total{lane=\"1\"} 3");
        counters_add(pages.page[0], COUNTER_reset_lost, 4);
        counters_add(pages.page[0], COUNTER_shed_down, 2);
        HAS_LINE("millrace_requests_reset_lost_total 4");
        HAS_LINE("millrace_requests_shed_total{reason=\"down\"} 2");
}
END_TEST

START_TEST(gateways_are_up_when_as_many_are_as_should_be) {
        HAS_LINE("millrace_stage_up{stage=\"gateway\",lane=\"-\"} 1");
        pages.topology->n_gateways = 2;
        HAS_LINE("millrace_stage_up{stage=\"gateway\",lane=\"-\"} 0");
}
END_TEST

#define RESTARTS(stage, lane, reason)                                                              \
        "millrace_stage_restarts_total{stage=\"" stage "\",lane=\"" lane "\",reason=\"" reason "\"}"

START_TEST(connections_die_with_their_gateway_and_requests_do_not) {
        counters_set(pages.page[0], COUNTER_connections_socket, 6);
        counters_set(pages.page[0], COUNTER_arena_used, 7);
        HAS_LINE("millrace_connections{surface=\"socket\"} 6");
        atomic_store(&pages.page[0]->heartbeat_ns, 0);
        HAS_LINE("millrace_connections{surface=\"socket\"} 0");
        HAS_LINE("millrace_arena_bytes 7");
}
END_TEST

START_TEST(restarts_are_incarnations_beyond_the_first) {
        struct counters_shm spare;

        atomic_store(&pages_stage(&pages, 1, ROLE_STREAM)->epoch, 4);
        atomic_store(&pages_stage(&pages, 1, ROLE_STREAM)->crashes, 1);
        HAS_LINE(RESTARTS("stream", "1", "crash") " 1");
        HAS_LINE(RESTARTS("stream", "1", "other") " 2");
        HAS_LINE(RESTARTS("stream", "0", "crash") " 0");
        HAS_LINE(RESTARTS("stream", "0", "other") " 0");
        HAS_LINE(RESTARTS("gateway", "-", "other") " 0");
        memcpy(&spare, pages.page[0],
                        sizeof(spare)); /* a lossless restart moves into the spare slot */
        pages.page[1] = &spare;
        HAS_LINE(RESTARTS("gateway", "-", "other") " 1");
        pages.page[1] = NULL;
}
END_TEST

/* ---- histograms ---- */

START_TEST(buckets_are_cumulative_and_end_in_the_count) {
        counters_observe(pages.page[0], HISTOGRAM_request, 1000);
        counters_observe(pages.page[0], HISTOGRAM_request, 64000);
        counters_observe(pages.page[0], HISTOGRAM_request, 1500000000);
        counters_observe(pages.page[0], HISTOGRAM_request, 3600ull * 1000000000);
        HAS_LINE("millrace_request_duration_seconds_bucket{le=\"0.000064\"} 1");
        HAS_LINE("millrace_request_duration_seconds_bucket{le=\"0.000128\"} 2");
        HAS_LINE("millrace_request_duration_seconds_bucket{le=\"1.048576\"} 2");
        HAS_LINE("millrace_request_duration_seconds_bucket{le=\"2.097152\"} 3");
        HAS_LINE("millrace_request_duration_seconds_bucket{le=\"268.435456\"} 3");
        HAS_LINE("millrace_request_duration_seconds_bucket{le=\"+Inf\"} 4");
        HAS_LINE("millrace_request_duration_seconds_sum 3601.500065000");
        HAS_LINE("millrace_request_duration_seconds_count 4");
}
END_TEST

START_TEST(stages_have_histograms_of_their_own) {
        counters_observe(pages_stage(&pages, 1, ROLE_INFERENCE), HISTOGRAM_stage, 500000);
        HAS_LINE("millrace_stage_duration_seconds_bucket{stage=\"inference\",lane=\"1\",le=\"0."
                 "000512\"} 1");
        HAS_LINE("millrace_stage_duration_seconds_count{stage=\"inference\",lane=\"1\"} 1");
        HAS_LINE("millrace_stage_duration_seconds_count{stage=\"inference\",lane=\"0\"} 0");
}
END_TEST

START_TEST(the_count_is_what_the_buckets_say_even_between_two_stores) {
        atomic_store(&pages.page[0]->histogram[HISTOGRAM_ttft].bucket[3], 5);
        atomic_store(&pages.page[0]->histogram[HISTOGRAM_ttft].count, 4);
        HAS_LINE("millrace_time_to_first_token_seconds_bucket{le=\"+Inf\"} 5");
        HAS_LINE("millrace_time_to_first_token_seconds_count 5");
}
END_TEST

START_TEST(a_quantile_is_the_bound_of_its_bucket) {
        struct figures_histogram h = {0};

        ck_assert(figures_quantile_s(&h, 0.5) == 0);
        h.bucket[0] = 1;
        h.bucket[10] = 99;
        h.count = 100;
        ck_assert_double_eq_tol(figures_quantile_s(&h, 0.005), 0.000064, 1e-9);
        ck_assert_double_eq_tol(figures_quantile_s(&h, 0.99), 0.065536, 1e-9);
}
END_TEST

/* ---- the formats ---- */

/* Walks the lines as a reader would: every sample belongs to the family announced last. */
static void check_form(const char *all, bool openmetrics) {
        char family[128] = "", type[16] = "";
        uint32_t n_families = 0;

        for (const char *line = all; *line;) {
                size_t n = strcspn(line, "\n");
                ck_assert_msg(line[n] == '\n', "the last line has no end");
                if (strncmp(line, "# HELP ", 7) == 0) {
                        ck_assert_int_eq(sscanf(line, "# HELP %127s ", family), 1);
                        n_families++;
                } else if (strncmp(line, "# TYPE ", 7) == 0) {
                        char typed[128];
                        ck_assert_int_eq(sscanf(line, "# TYPE %127s %15s", typed, type), 2);
                        ck_assert_str_eq(typed, family);
                        ck_assert_int_eq(openmetrics && strcmp(type, "counter") == 0 &&
                                                         strstr(typed, "_total"),
                                        0);
                } else if (strncmp(line, "# EOF", 5) == 0) {
                        ck_assert(openmetrics && line[n + 1] == '\0');
                } else {
                        size_t base = strlen(family);
                        ck_assert_msg(strncmp(line, family, base) == 0, "%.*s is not of %s", (int)n,
                                        line, family);
                        if (strcmp(type, "counter") == 0) {
                                ck_assert_int_eq(strncmp(line + base - (openmetrics ? 0 : 6),
                                                                 "_total", 6),
                                                0);
                                base += openmetrics ? 6 : 0;
                        }
                        if (strcmp(type, "histogram") != 0)
                                ck_assert_msg(line[base] == '{' || line[base] == ' ', "%.*s",
                                                (int)n, line);
                        ck_assert_ptr_nonnull(memchr(line, ' ', n));
                }
                line += n + 1;
        }
        ck_assert(n_families > 30);
}

START_TEST(each_sample_stands_with_its_family) {
        check_form(written(PROMETHEUS_TEXT), false);
        check_form(written(PROMETHEUS_OPENMETRICS), true);
        ck_assert_ptr_null(strstr(written(PROMETHEUS_TEXT), "# EOF"));
        ck_assert_str_eq(written(PROMETHEUS_OPENMETRICS) + text.len - 1 - 6, "# EOF\n");
}
END_TEST

START_TEST(openmetrics_is_written_when_it_is_as_welcome_as_plain_text) {
        static const struct {
                const char *accept;
                enum prometheus_format format;
        } cases[] = {
                        {"", PROMETHEUS_TEXT},
                        {"*/*", PROMETHEUS_TEXT},
                        {"text/html", PROMETHEUS_TEXT},
                        {"application/openmetrics-text", PROMETHEUS_OPENMETRICS},
                        {"Application/OpenMetrics-Text; version=1.0.0", PROMETHEUS_OPENMETRICS},
                        {"application/openmetrics-text;version=1.0.0;q=0.5,text/"
                         "plain;version=0.0.4;q=0.4,*/*;q=0.1",
                                        PROMETHEUS_OPENMETRICS},
                        {"text/plain;q=0.4, application/openmetrics-text;q=0.3", PROMETHEUS_TEXT},
                        {"text/plain , application/openmetrics-text", PROMETHEUS_OPENMETRICS},
                        {"application/openmetrics-text;q=0", PROMETHEUS_TEXT},
                        {"application/openmetrics-text;q=0.000, */*", PROMETHEUS_TEXT},
                        {"application/openmetrics-text;q=0.051,text/plain;q=0.05",
                                        PROMETHEUS_OPENMETRICS},
                        {"application/openmetrics-text;q=x", PROMETHEUS_TEXT},
                        {"application/openmetrics-textual", PROMETHEUS_TEXT},
                        {",,;,", PROMETHEUS_TEXT},
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                ck_assert_msg(prometheus_negotiate(cases[i].accept,
                                              (uint32_t)strlen(cases[i].accept)) == cases[i].format,
                                "%s", cases[i].accept);
}
END_TEST

START_TEST(an_endless_accept_header_is_plain_text) {
        char *accept = malloc(60000);

        memset(accept, 'a', 60000);
        ck_assert_int_eq(prometheus_negotiate(accept, 60000), PROMETHEUS_TEXT);
        memset(accept, ',', 60000);
        ck_assert_int_eq(prometheus_negotiate(accept, 60000), PROMETHEUS_TEXT);
        free(accept);
}
END_TEST

/* ---- the text itself ---- */

START_TEST(a_text_that_outgrows_its_limit_says_so_and_starts_again_after_a_reset) {
        static char block[1 << 20];
        struct text t = {0};

        for (int i = 0; i < 16; i++)
                text_add(&t, block, sizeof(block));
        ck_assert(!t.failed && t.len == TEXT_MAX);
        text_add(&t, block, 1);
        ck_assert(t.failed && t.len == TEXT_MAX);
        text_reset(&t);
        text_print(&t, "%s-%d", "a", 7);
        ck_assert(!t.failed && t.len == 3 && memcmp(t.at, "a-7", 3) == 0);
        text_close(&t);
}
END_TEST

/* ---- the document ---- */

static char *read_document(void) {
        FILE *file = fopen(document_path, "re");
        char *all = calloc(1, 1 << 20);

        ck_assert_ptr_nonnull(file);
        ck_assert_uint_gt(fread(all, 1, (1 << 20) - 1, file), 0);
        fclose(file);
        return all;
}

START_TEST(the_document_has_a_row_for_each_family_and_no_other) {
        char *document = read_document();
        const char *all = written(PROMETHEUS_TEXT);
        uint32_t n_families = 0, n_rows = 0;

        for (const char *line = strstr(all, "# HELP "); line; line = strstr(line + 1, "# HELP ")) {
                char name[128], help[256], type[16], row[512];
                ck_assert_int_eq(sscanf(line, "# HELP %127s %255[^\n]\n# TYPE %*s %15s", name, help,
                                                 type),
                                3);
                n_families++;
                snprintf(row, sizeof(row), "| `%s", name);
                const char *at = strstr(document, row);
                ck_assert_msg(at != NULL, "no row for %s", name);
                snprintf(row, sizeof(row), "| %s | %s |\n", type, help);
                const char *end = strchr(at, '\n');
                const char *rest = strstr(at, row);
                ck_assert_msg(rest && rest < end, "the row of %s does not say: %s", name, row);
        }
        for (const char *at = strstr(document, "\n| `millrace_"); at;
                        at = strstr(at + 1, "\n| `millrace_")) {
                const char *cell = strstr(at, "` | ") + 4;
                if (!strncmp(cell, "counter |", 9) || !strncmp(cell, "gauge |", 7) ||
                                !strncmp(cell, "histogram |", 11))
                        n_rows++;
        }
        ck_assert_uint_eq(n_rows, n_families);
        free(document);
}
END_TEST

int main(int argc, char **argv) {
        Suite *suite = suite_create("metrics");
        TCase *all = tcase_create("all");
        int failed;

        if (argc != 2) {
                fprintf(stderr, "usage: %s docs/metrics.md\n", argv[0]);
                return 2;
        }
        document_path = argv[1];
        tcase_add_checked_fixture(all, setup, teardown);
        tcase_add_test(all, processes_without_a_page_count_nothing);
        tcase_add_test(all, a_topology_with_more_processes_than_pages_is_not_believed);
        tcase_add_test(all, pages_full_of_ones_are_written_too);
        tcase_add_test(all, requests_are_summed_over_gateways);
        tcase_add_test(all, what_is_in_flight_is_told_by_lane);
        tcase_add_test(all, rings_are_told_by_stage_and_lane);
        tcase_add_test(all, redactions_are_told_by_entity_where_there_were_any);
        tcase_add_test(all, doorbells_and_dead_letters_are_summed_over_lanes);
        tcase_add_test(all, tokens_backends_connections_and_the_log_are_told);
        tcase_add_test(all, a_process_is_up_while_its_heartbeat_is_fresh);
        tcase_add_test(all, a_lanes_state_and_its_resets_are_told);
        tcase_add_test(all, gateways_are_up_when_as_many_are_as_should_be);
        tcase_add_test(all, connections_die_with_their_gateway_and_requests_do_not);
        tcase_add_test(all, restarts_are_incarnations_beyond_the_first);
        tcase_add_test(all, buckets_are_cumulative_and_end_in_the_count);
        tcase_add_test(all, stages_have_histograms_of_their_own);
        tcase_add_test(all, the_count_is_what_the_buckets_say_even_between_two_stores);
        tcase_add_test(all, a_quantile_is_the_bound_of_its_bucket);
        tcase_add_test(all, each_sample_stands_with_its_family);
        tcase_add_test(all, openmetrics_is_written_when_it_is_as_welcome_as_plain_text);
        tcase_add_test(all, an_endless_accept_header_is_plain_text);
        tcase_add_test(all, a_text_that_outgrows_its_limit_says_so_and_starts_again_after_a_reset);
        tcase_add_test(all, the_document_has_a_row_for_each_family_and_no_other);
        suite_add_tcase(suite, all);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
