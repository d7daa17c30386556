#include "stages/telemetry/prometheus.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "stages/engines/tokens/fit.h"

/* What a family's samples are labelled with, and which counters they show. */
enum shape {
        SHAPE_TOTAL,     /* one sample: a sum over all processes of the role */
        SHAPE_STAGE,     /* a sample for each lane's stage of the role, or of every lane stage */
        SHAPE_LANE,      /* a sample for each lane, of the role's process in it */
        SHAPE_ROLE,      /* a sample for each role, over all lanes */
        SHAPE_CASES,     /* a sample for each row of `cases` */
        SHAPE_IN_FLIGHT, /* the others are computed */
        SHAPE_LANE_UP,
        SHAPE_LANE_RESETS,
        SHAPE_CAPACITY,
        SHAPE_UP,
        SHAPE_RESTARTS,
        SHAPE_BUILD,
        SHAPE_HISTOGRAM,
        SHAPE_HISTOGRAM_STAGE,
        SHAPE_REDACTIONS,
        SHAPE_FACTORS,
};

enum type { TYPE_COUNTER, TYPE_GAUGE, TYPE_HISTOGRAM };

struct sample {
        const char *labels;
        enum counter counter;
};

struct family {
        const char *name; /* without _total */
        enum type type;
        enum shape shape;
        enum mr_role role;
        int which;         /* enum counter or enum histogram */
        const char *label; /* name of the label that a role or stage stands in */
        const struct sample *samples;
        uint32_t n_samples;
        const char *help;
};

static const char *const entities[] = {
#define ENTITY(name, group, check, sure, context, sentence) #name,
#define FORM(entity, score, pattern)
#define NO_ENTITY(pattern)
#include "stages/engines/redact/entities.def"
#undef ENTITY
#undef FORM
#undef NO_ENTITY
};

#define SAMPLES(name) .samples = name, .n_samples = sizeof(name) / sizeof(name[0])
#define ALL FIGURES_ROLE_ANY

static const struct sample requests[] = {
                {"outcome=\"completed\",class=\"2xx\"", COUNTER_completed},
                {"outcome=\"failed\",class=\"-\"", COUNTER_failed},
                {"outcome=\"cancelled\",class=\"4xx\"", COUNTER_cancelled},
};
static const struct sample sheds[] = {
                {"reason=\"door\"", COUNTER_shed_door},
                {"reason=\"timeout\"", COUNTER_shed_timeout},
                {"reason=\"draining\"", COUNTER_shed_draining},
                {"reason=\"down\"", COUNTER_shed_down},
                {"reason=\"database\"", COUNTER_shed_database},
};
static const struct sample queries[] = {
                {"outcome=\"timeout\"", COUNTER_query_timeouts},
                {"outcome=\"error\"", COUNTER_query_errors},
};
static const struct sample services[] = {
                {"service=\"embeddings\",outcome=\"ok\"", COUNTER_embeddings_ok},
                {"service=\"embeddings\",outcome=\"timeout\"", COUNTER_embeddings_timeout},
                {"service=\"embeddings\",outcome=\"error\"", COUNTER_embeddings_error},
                {"service=\"embeddings\",outcome=\"unfit\"", COUNTER_embeddings_unfit},
                {"service=\"embeddings\",outcome=\"skipped\"", COUNTER_embeddings_skipped},
                {"service=\"rerank\",outcome=\"ok\"", COUNTER_rerank_ok},
                {"service=\"rerank\",outcome=\"timeout\"", COUNTER_rerank_timeout},
                {"service=\"rerank\",outcome=\"error\"", COUNTER_rerank_error},
                {"service=\"rerank\",outcome=\"skipped\"", COUNTER_rerank_skipped},
};
static const struct sample watched[] = {
                {"outcome=\"added\"", COUNTER_watch_added},
                {"outcome=\"replaced\"", COUNTER_watch_replaced},
                {"outcome=\"removed\"", COUNTER_watch_removed},
                {"outcome=\"refused\"", COUNTER_watch_refused},
};
static const struct sample upstreams[] = {
                {"worker=\"all\",outcome=\"ok\"", COUNTER_upstream_ok},
                {"worker=\"all\",outcome=\"error\"", COUNTER_upstream_error},
                {"worker=\"all\",outcome=\"timeout\"", COUNTER_upstream_timeout},
                {"worker=\"all\",outcome=\"cancelled\"", COUNTER_upstream_cancelled},
};
static const struct sample tokens[] = {
                {"type=\"prompt\",model=\"all\"", COUNTER_tokens_prompt},
                {"type=\"completion\",model=\"all\"", COUNTER_tokens_completion},
};
static const struct sample calibrations[] = {
                {"outcome=\"used\"", COUNTER_calibrations},
                {"outcome=\"refused\"", COUNTER_calibrations_refused},
};
static const struct sample connections[] = {
                {"surface=\"socket\"", COUNTER_connections_socket},
                {"surface=\"http\"", COUNTER_connections_http},
};

static const struct family families[] = {
                {"millrace_build_info", TYPE_GAUGE, SHAPE_BUILD, ALL, 0,
                                .help = "Always 1; the version stands in a label."},
                {"millrace_requests", TYPE_COUNTER, SHAPE_CASES, ROLE_GATEWAY, 0, SAMPLES(requests),
                                .help = "Admitted requests that have ended, by outcome and class "
                                        "of status (- where it varies)."},
                {"millrace_requests_admitted", TYPE_COUNTER, SHAPE_TOTAL, ROLE_GATEWAY,
                                COUNTER_admitted, .help = "Requests admitted."},
                {"millrace_requests_shed", TYPE_COUNTER, SHAPE_CASES, ROLE_GATEWAY, 0,
                                SAMPLES(sheds),
                                .help = "Requests refused for lack of room, because a stage is "
                                        "down, or because the daemon drains."},
                {"millrace_requests_refused", TYPE_COUNTER, SHAPE_TOTAL, ROLE_GATEWAY,
                                COUNTER_refused, .help = "Requests refused for what they say."},
                {"millrace_requests_in_flight", TYPE_GAUGE, SHAPE_IN_FLIGHT, ROLE_GATEWAY, 0,
                                .help = "Requests admitted and not yet ended."},
                {"millrace_door_waiting", TYPE_GAUGE, SHAPE_TOTAL, ROLE_GATEWAY,
                                COUNTER_door_waiting, .help = "Requests that wait at the door."},
                {"millrace_door_bytes", TYPE_GAUGE, SHAPE_TOTAL, ROLE_GATEWAY, COUNTER_door_bytes,
                                .help = "Bytes that wait at the door."},
                {"millrace_arena_bytes", TYPE_GAUGE, SHAPE_TOTAL, ROLE_GATEWAY, COUNTER_arena_used,
                                .help = "Bytes of requests held: bodies, and what dead letters are made from."},
                {"millrace_request_duration_seconds", TYPE_HISTOGRAM, SHAPE_HISTOGRAM, ROLE_GATEWAY,
                                HISTOGRAM_request,
                                .help = "Time from admission to the last event."},
                {"millrace_time_to_first_token_seconds", TYPE_HISTOGRAM, SHAPE_HISTOGRAM,
                                ROLE_GATEWAY, HISTOGRAM_ttft,
                                .help = "Time from admission to the first delta."},
                {"millrace_time_per_output_token_seconds", TYPE_HISTOGRAM, SHAPE_HISTOGRAM,
                                ROLE_GATEWAY, HISTOGRAM_token,
                                .help = "Time from the first delta to the last event, for each "
                                        "token."},
                {"millrace_stage_duration_seconds", TYPE_HISTOGRAM, SHAPE_HISTOGRAM_STAGE, ALL,
                                HISTOGRAM_stage, .help = "Time that a request spent in a stage."},
                {"millrace_ring_records", TYPE_GAUGE, SHAPE_STAGE, ALL, COUNTER_ring_depth,
                                .label = "ring",
                                .help = "Records that wait in the data rings into a stage."},
                {"millrace_ring_records_high", TYPE_GAUGE, SHAPE_STAGE, ALL,
                                COUNTER_ring_high_water, .label = "ring",
                                .help = "Most records that ever waited in one of them."},
                {"millrace_ring_bytes", TYPE_GAUGE, SHAPE_STAGE, ALL, COUNTER_ring_bytes,
                                .label = "ring",
                                .help = "Payload bytes that wait in the data rings into a stage."},
                {"millrace_ring_capacity", TYPE_GAUGE, SHAPE_CAPACITY, ALL, 0, .label = "ring",
                                .help = "Records that may wait in one of them (channels.X)."},
                {"millrace_records_in", TYPE_COUNTER, SHAPE_STAGE, ALL, COUNTER_records_in,
                                .label = "stage", .help = "Records that a stage has taken."},
                {"millrace_records_out", TYPE_COUNTER, SHAPE_STAGE, ALL, COUNTER_records_out,
                                .label = "stage", .help = "Records that a stage has published."},
                {"millrace_doorbells", TYPE_COUNTER, SHAPE_ROLE, ALL, COUNTER_doorbells,
                                .label = "ring",
                                .help = "Wake-ups sent for rings, by the stage that rang."},
                {"millrace_wakeups", TYPE_COUNTER, SHAPE_ROLE, ALL, COUNTER_wakeups,
                                .label = "stage", .help = "Returns from sleep."},
                {"millrace_tripwire", TYPE_COUNTER, SHAPE_TOTAL, ALL, COUNTER_tripwire,
                                .help = "Times that a record waited and nobody rang: 0, unless "
                                        "somebody stopped a process for seconds."},
                {"millrace_stage_up", TYPE_GAUGE, SHAPE_UP, ALL, 0, .label = "stage",
                                .help = "1 while the process of a stage gives signs of life "
                                        "(gateways: all of them)."},
                {"millrace_stage_restarts", TYPE_COUNTER, SHAPE_RESTARTS, ALL, 0, .label = "stage",
                                .help = "Replacements of a stage's process, planned ones "
                                        "included."},
                {"millrace_dead_letters", TYPE_COUNTER, SHAPE_ROLE, ALL, COUNTER_dead_letters,
                                .label = "stage",
                                .help = "Requests given up after three deaths of the stage that "
                                        "held them."},
                {"millrace_requests_restart_lost", TYPE_COUNTER, SHAPE_TOTAL, ALL,
                                COUNTER_restart_lost,
                                .help = "Requests ended with worker_restarted."},
                {"millrace_requests_reruns", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_restart_reruns,
                                .help = "Detached requests that ran anew because inference died in "
                                        "the middle of an answer that nobody had read."},
                {"millrace_lane_up", TYPE_GAUGE, SHAPE_LANE_UP, ALL, 0,
                                .help = "1 while a lane takes requests, 0 while it is down or "
                                        "being reset."},
                {"millrace_lane_resets", TYPE_COUNTER, SHAPE_LANE_RESETS, ALL, 0,
                                .help = "Resets of a lane whose shared memory had become "
                                        "inconsistent."},
                {"millrace_requests_reset_lost", TYPE_COUNTER, SHAPE_TOTAL, ROLE_GATEWAY,
                                COUNTER_reset_lost,
                                .help = "Requests ended because their lane was reset."},
                {"millrace_queries", TYPE_COUNTER, SHAPE_TOTAL, ROLE_RAG, COUNTER_queries,
                                .help = "Queries of the document index."},
                {"millrace_query_failures", TYPE_COUNTER, SHAPE_CASES, ROLE_RAG, 0,
                                SAMPLES(queries), .help = "Queries that gave no documents."},
                {"millrace_retrieval_services", TYPE_COUNTER, SHAPE_CASES, ROLE_RAG, 0,
                                SAMPLES(services),
                                .help = "Questions to rag.embeddings and rag.rerank; all but ok "
                                        "were done without."},
                {"millrace_watch_documents", TYPE_COUNTER, SHAPE_CASES, ROLE_WATCH, 0,
                                SAMPLES(watched),
                                .help = "Documents of the watched folders, by what became of them "
                                        "in the index; refused counts files and rows."},
                {"millrace_watch_scans", TYPE_COUNTER, SHAPE_TOTAL, ROLE_WATCH, COUNTER_watch_scans,
                                .help = "Looks at everything in the watched folders."},
                {"millrace_tokens", TYPE_COUNTER, SHAPE_CASES, ROLE_INFERENCE, 0, SAMPLES(tokens),
                                .help = "Tokens, as the backend or the estimate counts them."},
                {"millrace_token_calibrations", TYPE_COUNTER, SHAPE_CASES, ROLE_INFERENCE, 0,
                                SAMPLES(calibrations),
                                .help = "Backends' counts of a prompt that corrected the estimate, or "
                                        "that no tokenizer would make."},
                {"millrace_token_factor", TYPE_GAUGE, SHAPE_FACTORS, ROLE_INFERENCE, 0,
                                .help = "What the estimate is multiplied with, by model and class of "
                                        "text."},
                {"millrace_redactions", TYPE_COUNTER, SHAPE_REDACTIONS, ROLE_POST, 0,
                                .help = "Finds in answers and prompts that were replaced, by entity; "
                                        "own: those of the operator's rules."},
                {"millrace_safety_finds", TYPE_COUNTER, SHAPE_TOTAL, ALL, COUNTER_safety_found,
                                .help = "Finds of post.safety's lists in prompts and answers."},
                {"millrace_safety_refusals", TYPE_COUNTER, SHAPE_TOTAL, ALL, COUNTER_safety_refused,
                                .help = "Requests that post.safety refused, and answers that it ended."},
                {"millrace_injections", TYPE_COUNTER, SHAPE_TOTAL, ALL, COUNTER_injections,
                                .help = "Prompts and documents that set off a tripwire of post.safety."},
                {"millrace_upstream_requests", TYPE_COUNTER, SHAPE_CASES, ROLE_INFERENCE, 0,
                                SAMPLES(upstreams),
                                .help = "Requests to backends, by how they ended."},
                {"millrace_connections", TYPE_GAUGE, SHAPE_CASES, ROLE_GATEWAY, 0,
                                SAMPLES(connections), .help = "Client connections open now."},
                {"millrace_connections_accepted", TYPE_COUNTER, SHAPE_TOTAL, ROLE_GATEWAY,
                                COUNTER_connections_total, .help = "Client connections accepted."},
                {"millrace_readers_cut", TYPE_COUNTER, SHAPE_TOTAL, ROLE_GATEWAY,
                                COUNTER_readers_cut,
                                .help = "Readers that the log has left behind."},
                {"millrace_log_responses", TYPE_GAUGE, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_log_responses, .help = "Responses in the response log."},
                {"millrace_log_used_bytes", TYPE_GAUGE, SHAPE_LANE, ROLE_STREAM, COUNTER_log_used,
                                .help = "Bytes of the response log in use."},
                {"millrace_log_written_bytes", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_log_bytes_written,
                                .help = "Bytes of events written to the response log."},
                {"millrace_log_evictions", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM, COUNTER_evictions,
                                .help = "Responses evicted from the response log."},
                {"millrace_results_stored", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_results_stored,
                                .help = "Results of detached requests that went to the database."},
                {"millrace_result_parts", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_result_parts,
                                .help = "Parts of detached answers that went to the database before "
                                        "their end, because the response log needed the room."},
                {"millrace_result_store_failures", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_store_failures,
                                .help = "Times that a result could not be stored."},
                {"millrace_session_turns_stored", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_turns_stored, .help = "Turns of sessions that went to the database."},
                {"millrace_session_turns_lost", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_turns_lost, .help = "Turns of sessions that could not be stored."},
                {"millrace_session_histories", TYPE_COUNTER, SHAPE_LANE, ROLE_ASSEMBLE,
                                COUNTER_histories, .help = "Prompts that earlier turns of their session were put into."},
                {"millrace_session_histories_missed", TYPE_COUNTER, SHAPE_LANE, ROLE_ASSEMBLE,
                                COUNTER_histories_missed, .help = "Prompts that went without the history of their session, "
                                        "because the database failed or was too slow."},
                {"millrace_database_lookups", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM, COUNTER_lookups,
                                .help = "Ids that gateways asked the database for."},
                {"millrace_database_failed", TYPE_GAUGE, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_database_failed,
                                .help = "1 while the database cannot be written."},
                {"millrace_log_unknown", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM, COUNTER_log_unknown,
                                .help = "Events whose response the log does not know: always 0, or "
                                        "a bug of ours."},
                {"millrace_notices_missed", TYPE_COUNTER, SHAPE_LANE, ROLE_STREAM,
                                COUNTER_notices_missed,
                                .help = "Notices to gateways that found no room: the gateway then "
                                        "looks for itself."},
                {"millrace_log_lines_dropped", TYPE_COUNTER, SHAPE_TOTAL, ALL,
                                COUNTER_log_lines_dropped,
                                .help = "Log lines dropped because stderr would have blocked."},
};

/* ---- samples ---- */

struct writer {
        struct text *text;
        const struct figures *f;
        const struct family *family;
};

static void sample(const struct writer *w, const char *labels, uint64_t value) {
        text_print(w->text, "%s%s%s%s%s %" PRIu64 "\n", w->family->name,
                        w->family->type == TYPE_COUNTER ? "_total" : "", *labels ? "{" : "", labels,
                        *labels ? "}" : "", value);
}

static void sample_stage(const struct writer *w, enum mr_role role, uint32_t lane, uint64_t value) {
        char labels[96];

        snprintf(labels, sizeof(labels), "%s=\"%s\",lane=\"%u\"", w->family->label,
                        mr_role_name(role), lane);
        sample(w, labels, value);
}

static void each_stage(const struct writer *w) {
        for (uint32_t lane = 0; lane < w->f->topology->n_lanes; lane++)
                for (uint32_t role = 0; role < LANE_STAGES_N; role++)
                        sample_stage(w, role, lane,
                                        w->family->shape == SHAPE_CAPACITY
                                                        ? figures_ring_capacity(w->f, role, lane)
                                                        : figures_sum(w->f, role, lane,
                                                                          (enum counter)w->family
                                                                                          ->which));
}

static uint64_t lane_value(const struct writer *w, uint32_t lane) {
        uint64_t word = atomic_load_explicit(
                        &w->f->topology->lane_state[lane], memory_order_relaxed);

        if (w->family->shape == SHAPE_IN_FLIGHT)
                return figures_in_flight(w->f, lane);
        if (w->family->shape == SHAPE_LANE_UP)
                return lane_word_state(word) == LANE_RUNNING;
        if (w->family->shape == SHAPE_LANE_RESETS)
                return lane_word_generation(word);
        return figures_sum(w->f, w->family->role, lane, (enum counter)w->family->which);
}

static void each_lane(const struct writer *w) {
        for (uint32_t lane = 0; lane < w->f->topology->n_lanes; lane++) {
                char labels[32];
                snprintf(labels, sizeof(labels), "lane=\"%u\"", lane);
                sample(w, labels, lane_value(w, lane));
        }
}

static void each_role(const struct writer *w) {
        for (uint32_t role = 0; role < ROLES_N; role++) {
                char labels[64];
                snprintf(labels, sizeof(labels), "%s=\"%s\"", w->family->label, mr_role_name(role));
                sample(w, labels,
                                figures_sum(w->f, role, FIGURES_LANE_ANY,
                                                (enum counter)w->family->which));
        }
}

static void sample_restarts(
                const struct writer *w, const char *process, enum mr_role role, uint32_t lane) {
        uint64_t all = figures_restarts(w->f, role, lane),
                 crashes = figures_crashes(w->f, role, lane),
                 recycles = figures_recycles(w->f, role, lane), known = crashes + recycles;
        char labels[96];

        snprintf(labels, sizeof(labels), "%s,reason=\"crash\"", process);
        sample(w, labels, crashes);
        snprintf(labels, sizeof(labels), "%s,reason=\"memory\"", process);
        sample(w, labels, recycles);
        snprintf(labels, sizeof(labels), "%s,reason=\"other\"", process);
        sample(w, labels, all > known ? all - known : 0);
}

/* Every process: lane's stages by lane, the others with lane "-". */
static void each_process(const struct writer *w) {
        for (uint32_t role = 0; role < ROLES_N; role++) {
                uint32_t n_lanes = role < LANE_STAGES_N ? w->f->topology->n_lanes : 1;

                if (role == ROLE_WATCH && !w->f->watched)
                        continue;
                for (uint32_t i = 0; i < n_lanes; i++) {
                        uint32_t lane = role < LANE_STAGES_N ? i : FIGURES_LANE_ANY;
                        char labels[64], name[16] = "-";
                        if (lane != FIGURES_LANE_ANY)
                                snprintf(name, sizeof(name), "%u", lane);
                        snprintf(labels, sizeof(labels), "stage=\"%s\",lane=\"%s\"",
                                        mr_role_name(role), name);
                        if (w->family->shape == SHAPE_RESTARTS)
                                sample_restarts(w, labels, role, lane);
                        else
                                sample(w, labels, figures_up(w->f, role, lane));
                }
        }
}

static void each_case(const struct writer *w) {
        for (uint32_t i = 0; i < w->family->n_samples; i++)
                sample(w, w->family->samples[i].labels,
                                figures_sum(w->f, w->family->role, FIGURES_LANE_ANY,
                                                w->family->samples[i].counter));
}

/* Those that were found at least once; the operator's own together. */
static void each_entity(const struct writer *w) {
        for (uint32_t i = 0; i < COUNTERS_REDACTIONS; i++) {
                const uint32_t n = sizeof(entities) / sizeof(entities[0]);
                uint64_t value = figures_redactions(w->f, i);
                char labels[64];

                if (value == 0)
                        continue;
                snprintf(labels, sizeof(labels), "entity=\"%s\"", i < n ? entities[i] : "own");
                sample(w, labels, value);
        }
}

/* As a label's value: a client may have made the name up. */
static void model_text(const char *name, char to[static 2 * CALIBRATION_NAME_MAX + 1]) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < CALIBRATION_NAME_MAX && name[i]; i++) {
                bool line = name[i] == '\n';
                if (line || name[i] == '"' || name[i] == '\\')
                        to[n++] = '\\';
                to[n++] = line ? 'n' : name[i];
        }
        to[n] = '\0';
}

static void factors_of(const struct writer *w, const char *name) {
        char model[2 * CALIBRATION_NAME_MAX + 1];
        struct calibration known;
        struct fit fit;

        model_text(name, model);
        calibration_gather(w->f->pages, name, (uint32_t)strnlen(name, CALIBRATION_NAME_MAX), &known);
        fit_solve(&known, &fit);
        for (uint32_t part = 0; part < TOKENS_PARTS_N; part++)
                text_print(w->text, "%s{model=\"%s\",class=\"%s\"} %.4f\n", w->family->name, model,
                                tokens_part_name(part), fit.factor[part]);
}

/* Each model once, of those that any lane knows. */
static void each_model(const struct writer *w) {
        struct calibration c;

        for (uint32_t i = 0; i < PROCS_MAX * CALIBRATION_MODELS; i++)
                if (figures_calibration(w->f, i, &c))
                        factors_of(w, c.name);
}

/* ---- histograms ---- */

/* Exact decimals: bounds are whole microseconds, and none is a whole second. */
static void bound_text(uint32_t i, char to[static 24]) {
        uint64_t us = (COUNTERS_BUCKET_NS << i) / 1000;
        int n = snprintf(to, 24, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);

        while (n > 0 && to[n - 1] == '0')
                to[--n] = '\0';
}

static void histogram(
                const struct writer *w, const char *labels, enum mr_role role, uint32_t lane) {
        const char *name = w->family->name, *comma = *labels ? "," : "";
        const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
        struct figures_histogram h;
        uint64_t so_far = 0;

        figures_histogram(w->f, role, lane, (enum histogram)w->family->which, &h);
        for (uint32_t i = 0; i < COUNTERS_BUCKETS - 1; i++) {
                char bound[24];
                so_far += h.bucket[i];
                bound_text(i, bound);
                text_print(w->text, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", name, labels, comma,
                                bound, so_far);
        }
        text_print(w->text, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma,
                        h.count);
        text_print(w->text, "%s_sum%s%s%s %" PRIu64 ".%09" PRIu64 "\n", name, open, labels, close,
                        h.sum_ns / 1000000000, h.sum_ns % 1000000000);
        text_print(w->text, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, h.count);
}

static void histogram_stages(const struct writer *w) {
        for (uint32_t lane = 0; lane < w->f->topology->n_lanes; lane++)
                for (uint32_t role = 0; role < LANE_STAGES_N; role++) {
                        char labels[64];
                        snprintf(labels, sizeof(labels), "stage=\"%s\",lane=\"%u\"",
                                        mr_role_name(role), lane);
                        histogram(w, labels, role, lane);
                }
}

/* ---- families ---- */

static void write_samples(const struct writer *w) {
        switch (w->family->shape) {
        case SHAPE_TOTAL:
                sample(w, "",
                                figures_sum(w->f, w->family->role, FIGURES_LANE_ANY,
                                                (enum counter)w->family->which));
                return;
        case SHAPE_STAGE:
        case SHAPE_CAPACITY:
                each_stage(w);
                return;
        case SHAPE_LANE:
        case SHAPE_IN_FLIGHT:
        case SHAPE_LANE_UP:
        case SHAPE_LANE_RESETS:
                each_lane(w);
                return;
        case SHAPE_ROLE:
                each_role(w);
                return;
        case SHAPE_CASES:
                each_case(w);
                return;
        case SHAPE_UP:
        case SHAPE_RESTARTS:
                each_process(w);
                return;
        case SHAPE_BUILD:
                sample(w, "version=\"" MILLRACE_VERSION "\"", 1);
                return;
        case SHAPE_HISTOGRAM:
                histogram(w, "", w->family->role, FIGURES_LANE_ANY);
                return;
        case SHAPE_HISTOGRAM_STAGE:
                histogram_stages(w);
                return;
        case SHAPE_REDACTIONS:
                each_entity(w);
                return;
        case SHAPE_FACTORS:
                each_model(w);
                return;
        }
}

void prometheus_write(struct text *text, const struct figures *f, enum prometheus_format format) {
        static const char *const types[] = {[TYPE_COUNTER] = "counter",
                        [TYPE_GAUGE] = "gauge",
                        [TYPE_HISTOGRAM] = "histogram"};

        for (uint32_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
                const struct family *family = &families[i];
                /* OpenMetrics names a family, the older format the samples. */
                const char *total = family->type == TYPE_COUNTER && format == PROMETHEUS_TEXT
                                                    ? "_total"
                                                    : "";
                text_print(text, "# HELP %s%s %s\n# TYPE %s%s %s\n", family->name, total,
                                family->help, family->name, total, types[family->type]);
                write_samples(&(struct writer){text, f, family});
        }
        if (format == PROMETHEUS_OPENMETRICS)
                text_print(text, "# EOF\n");
}

/* ---- what is asked for ---- */

const char *prometheus_content_type(enum prometheus_format format) {
        return format == PROMETHEUS_OPENMETRICS
                               ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                               : "text/plain; version=0.0.4; charset=utf-8";
}

/* The quality of one element of Accept, in thousandths; what is no number counts as 0. */
static unsigned quality(const char *element) {
        for (const char *p = strchr(element, ';'); p; p = strchr(p + 1, ';')) {
                const char *q = p + 1 + strspn(p + 1, " \t");
                if (strncasecmp(q, "q=", 2) != 0)
                        continue;
                if (q[2] == '1')
                        return 1000;
                if (q[2] != '0' || q[3] != '.')
                        return 0;
                unsigned n = 0, digits = 0;
                for (q += 4; digits < 3; digits++)
                        n = n * 10 + (*q >= '0' && *q <= '9' ? (unsigned)(*q++ - '0') : 0);
                return n;
        }
        return 1000;
}

enum prometheus_format prometheus_negotiate(const char *accept, uint32_t n) {
        unsigned open = 0, plain = 0;
        char element[256];

        for (uint32_t at = 0; at < n;) {
                const char *from = accept + at, *comma = memchr(from, ',', n - at);
                uint32_t len = comma ? (uint32_t)(comma - from) : n - at;
                unsigned q;
                at += len + 1;
                if (len >= sizeof(element))
                        continue;
                memcpy(element, from, len);
                element[len] = '\0';
                const char *type = element + strspn(element, " \t");
                size_t name = strcspn(type, "; \t");
                q = quality(type);
                if (name == 28 && strncasecmp(type, "application/openmetrics-text", name) == 0)
                        open = q > open ? q : open;
                else if ((name == 10 && strncasecmp(type, "text/plain", name) == 0) ||
                                (name == 6 && strncasecmp(type, "text/*", name) == 0) ||
                                (name == 3 && strncmp(type, "*/*", name) == 0))
                        plain = q > plain ? q : plain;
        }
        return open > 0 && open >= plain ? PROMETHEUS_OPENMETRICS : PROMETHEUS_TEXT;
}
