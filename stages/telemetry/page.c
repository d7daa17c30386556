#include "stages/telemetry/page.h"

#include <inttypes.h>

static const char head[] = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta "
                           "charset=\"utf-8\"><title>millrace</title>\n"
                           "<style>body{font-family:sans-serif;margin:2em}table{border-collapse:"
                           "collapse;margin:1em 0}"
                           "td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ccc}"
                           "td:first-child,th:first-child{text-align:left}</style></"
                           "head><body>\n<h1>millrace</h1>\n";

static void row(struct text *text, const char *name, uint64_t value) {
        text_print(text, "<tr><td>%s</td><td>%" PRIu64 "</td></tr>\n", name, value);
}

static void requests(struct text *text, const struct figures *f) {
        static const struct {
                const char *name;
                enum counter counter;
        } rows[] = {
                        {"admitted", COUNTER_admitted},
                        {"completed", COUNTER_completed},
                        {"failed", COUNTER_failed},
                        {"cancelled", COUNTER_cancelled},
                        {"in flight", COUNTER_in_flight},
                        {"waiting at the door", COUNTER_door_waiting},
                        {"connections", COUNTER_connections},
        };

        text_print(text, "<h2>Requests</h2><table>\n");
        for (uint32_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                row(text, rows[i].name,
                                figures_sum(f, ROLE_GATEWAY, FIGURES_LANE_ANY, rows[i].counter));
        row(text, "shed",
                        figures_sum(f, ROLE_GATEWAY, FIGURES_LANE_ANY, COUNTER_shed_door) +
                                        figures_sum(f, ROLE_GATEWAY, FIGURES_LANE_ANY,
                                                        COUNTER_shed_timeout) +
                                        figures_sum(f, ROLE_GATEWAY, FIGURES_LANE_ANY,
                                                        COUNTER_shed_draining) +
                                        figures_sum(f, ROLE_GATEWAY, FIGURES_LANE_ANY,
                                                        COUNTER_shed_down) +
                                        figures_sum(f, ROLE_GATEWAY, FIGURES_LANE_ANY,
                                                        COUNTER_shed_database));
        row(text, "prompt tokens",
                        figures_sum(f, ROLE_INFERENCE, FIGURES_LANE_ANY, COUNTER_tokens_prompt));
        row(text, "completion tokens",
                        figures_sum(f, ROLE_INFERENCE, FIGURES_LANE_ANY,
                                        COUNTER_tokens_completion));
        text_print(text, "</table>\n");
}

static void times(struct text *text, const struct figures *f) {
        static const struct {
                const char *name;
                enum histogram histogram;
        } rows[] = {
                        {"whole request", HISTOGRAM_request},
                        {"first token", HISTOGRAM_ttft},
                        {"each further token", HISTOGRAM_token},
        };

        text_print(text, "<h2>Times</h2><table>\n<tr><th></th><th>count</th><th>half within</th>"
                         "<th>99 %% within</th></tr>\n");
        for (uint32_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct figures_histogram h;
                figures_histogram(f, ROLE_GATEWAY, FIGURES_LANE_ANY, rows[i].histogram, &h);
                text_print(text,
                                "<tr><td>%s</td><td>%" PRIu64
                                "</td><td>%.3f s</td><td>%.3f s</td></tr>\n",
                                rows[i].name, h.count, figures_quantile_s(&h, 0.5),
                                figures_quantile_s(&h, 0.99));
        }
        text_print(text, "</table>\n");
}

static void process(struct text *text, const struct figures *f, enum mr_role role, uint32_t lane) {
        text_print(text, "<tr><td>%s", mr_role_name(role));
        if (lane != FIGURES_LANE_ANY)
                text_print(text, " %u", lane);
        text_print(text,
                        "</td><td>%s</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>%" PRIu64
                        "</td>",
                        figures_up(f, role, lane) ? "up" : "down", figures_restarts(f, role, lane),
                        figures_sum(f, role, lane, COUNTER_records_in),
                        figures_sum(f, role, lane, COUNTER_records_out));
        if (role < LANE_STAGES_N)
                text_print(text, "<td>%" PRIu64 " / %" PRIu64 "</td>",
                                figures_sum(f, role, lane, COUNTER_ring_depth),
                                figures_ring_capacity(f, role, lane));
        text_print(text, "</tr>\n");
}

static void processes(struct text *text, const struct figures *f) {
        text_print(text, "<h2>Processes</h2><table>\n<tr><th>stage</th><th>state</th><th>restarts</"
                         "th>"
                         "<th>records in</th><th>records out</th><th>waiting</th></tr>\n");
        process(text, f, ROLE_GATEWAY, FIGURES_LANE_ANY);
        for (uint32_t lane = 0; lane < f->topology->n_lanes; lane++)
                for (uint32_t role = 0; role < LANE_STAGES_N; role++)
                        process(text, f, role, lane);
        process(text, f, ROLE_TELEMETRY, FIGURES_LANE_ANY);
        if (f->watched)
                process(text, f, ROLE_WATCH, FIGURES_LANE_ANY);
        text_print(text, "</table>\n");
}

void page_write(struct text *text, const struct figures *f) {
        text_add(text, head, sizeof(head) - 1);
        requests(text, f);
        times(text, f);
        processes(text, f);
        text_print(text, "<p>millrace %s · <a href=\"/metrics\">metrics</a></p>\n</body></html>\n",
                        MILLRACE_VERSION);
}
