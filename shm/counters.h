/*
 * counters -- what one process counts about itself, for the supervisor, telemetry and `status`.
 *
 * Shape   a header page part (liveness, last words), then one word per counter of the table below,
 *         what was learnt of tokens, histograms
 * Units   named by each row; times in nanoseconds
 * Owner   process p writes counters.<p>; the page outlives it, its successor counts on
 * Errors  0, -EPROTO
 * Limits  plain relaxed stores by the single writer: no read-modify-write instruction, no lock
 */
#pragma once

#include "shm/calibration.h"
#include "shm/layout.h"

#define COUNTERS_WORDS_MAX 12u  /* last words: 96 bytes of text */
#define COUNTERS_FAULTS_MAX 16u
/* Redactions by entity, in the order of the engine's table; the last word takes the operator's own. */
#define COUNTERS_REDACTIONS 64u
/* Histogram: bucket i counts the values below COUNTERS_BUCKET_NS << i that no smaller bucket
 * counts; the last one takes the rest. */
#define COUNTERS_BUCKETS 24u
#define COUNTERS_BUCKET_NS UINT64_C(64000)

/* The table: name, metric, label text, sentence. C(…) counts up for ever; G(…) is a gauge. */
#define COUNTERS_TABLE(C, G)                                                                       \
        C(records_in, "records taken from input rings")                                            \
        C(records_out, "records committed to output rings")                                        \
        C(doorbells, "eventfd writes")                                                             \
        C(wakeups, "returns from sleep")                                                           \
        C(tripwire, "woken by the coarse timeout with data present: a bug")                        \
        C(admitted, "requests admitted")                                                           \
        C(completed, "requests that ended in done")                                                \
        C(failed, "requests that ended in an error")                                               \
        C(cancelled, "requests that were cancelled")                                               \
        C(shed_door, "requests refused: door full")                                                \
        C(shed_timeout, "requests refused: waited too long at the door")                           \
        C(shed_draining, "requests refused: draining")                                             \
        C(shed_down, "requests refused: a stage of their lane is down")                            \
        C(shed_database, "detached requests refused: the database cannot be written")             \
        C(refused, "requests refused for what they say")                                           \
        C(connections_total, "connections accepted")                                               \
        C(readers_cut, "readers cut because the log moved on")                                     \
        C(evictions, "responses evicted from the log")                                             \
        C(log_bytes_written, "event bytes written to the log")                                     \
        C(notices_missed, "notices dropped because the ring was full")                             \
        C(log_unknown, "events whose response the log does not know")                             \
        C(results_stored, "results of detached requests that the database has")                    \
        C(result_parts, "parts of open detached answers handed to the database for room")          \
        C(store_failures, "times that a result could not be stored")                               \
        C(turns_stored, "turns of sessions that the database has")                                 \
        C(turns_lost, "turns of sessions that could not be stored")                                \
        C(histories, "prompts that earlier turns of their session were put into")                  \
        C(histories_missed, "prompts without the history of their session: the database was too slow, or failed") \
        C(lookups, "ids that gateways asked the database for")                                     \
        C(queries, "index queries run")                                                            \
        C(query_timeouts, "index queries that missed their deadline")                              \
        C(query_errors, "index queries that failed")                                               \
        C(embeddings_ok, "questions that rag.embeddings made a vector of")                         \
        C(embeddings_timeout, "questions that it was too slow for")                                \
        C(embeddings_error, "questions that it failed")                                            \
        C(embeddings_unfit, "questions without vectors in the index that would do")                \
        C(embeddings_skipped, "questions not put to it because it had failed lately")              \
        C(rerank_ok, "results that rag.rerank put into order")                                     \
        C(rerank_timeout, "results that it was too slow for")                                      \
        C(rerank_error, "results that it failed")                                                  \
        C(rerank_skipped, "results not put to it because it had failed lately")                    \
        C(watch_added, "documents of watched folders added to the index")                         \
        C(watch_replaced, "documents of watched folders that changed")                            \
        C(watch_removed, "documents of watched folders that went")                                \
        C(watch_refused, "files and rows of watched folders that could not go in")                \
        C(watch_scans, "looks at everything in the watched folders")                              \
        C(upstream_ok, "backend requests that ended well")                                         \
        C(upstream_error, "backend requests that failed")                                          \
        C(upstream_timeout, "backend requests that timed out")                                     \
        C(upstream_cancelled, "backend requests that we closed")                                   \
        C(safety_found, "finds of post.safety's lists in prompts and answers")                     \
        C(safety_refused, "requests that post.safety refused, and answers that it ended")          \
        C(injections, "prompts and documents that set off a tripwire of post.safety")              \
        C(tokens_prompt, "prompt tokens, as the backend or the estimate counts them")              \
        C(tokens_completion, "completion tokens")                                                  \
        C(calibrations, "backends' counts of a prompt that corrected the estimate")                \
        C(calibrations_refused, "backends' counts that no tokenizer would make")                   \
        C(log_lines_dropped, "log lines dropped because stderr would have blocked")                \
        C(restart_lost, "requests ended with worker_restarted")                                    \
        C(restart_reruns, "detached requests that ran anew from the middle of their answer")       \
        C(reset_lost, "requests ended with internal because their lane was reset")                 \
        C(dead_letters, "requests given up after three deaths")                                    \
        G(in_flight, "requests held now")                                                          \
        G(connections, "connections open now")                                                     \
        G(connections_socket, "of these, on the Unix socket")                                      \
        G(connections_http, "of these, over HTTP")                                                 \
        G(door_waiting, "requests that wait at the door now")                                      \
        G(door_bytes, "bytes that wait at the door now")                                           \
        G(ring_depth, "records that wait in the data input ring")                                  \
        G(ring_high_water, "most records that ever waited there")                                  \
        G(ring_bytes, "payload bytes that wait there")                                             \
        G(arena_used, "bytes held in the arena: bodies, and what dead letters are made from")        \
        G(log_responses, "responses in the log")                                                   \
        G(log_used, "bytes of the log in use")                                                     \
        G(database_failed, "1 while the database cannot be written")                               \
        G(private_bytes, "private memory, as memory.worker_cap_bytes counts it; 0: not counted")

enum counter {
#define COUNTERS_ENUM(name, sentence) COUNTER_##name,
        COUNTERS_TABLE(COUNTERS_ENUM, COUNTERS_ENUM)
#undef COUNTERS_ENUM
        COUNTERS_N
};

enum histogram {
        HISTOGRAM_stage,    /* time a request spent in this stage */
        HISTOGRAM_request,  /* gateway: admission to terminal event */
        HISTOGRAM_ttft,     /* gateway: admission to first delta */
        HISTOGRAM_token,    /* gateway: time per output token */
        HISTOGRAMS_N
};

struct counters_histogram {
        mr_au64 count, sum_ns;
        mr_au64 bucket[COUNTERS_BUCKETS];
};

struct counters_shm {
        uint64_t magic, layout;
        /* W: process.  R: supervisor. */
        alignas(LAYOUT_SEPARATION) mr_au64 heartbeat_ns; /* CLOCK_MONOTONIC of the last loop turn */
        mr_au64 epoch;                                   /* incarnation */
        mr_au64 crashes; /* incarnations begun after a death of our own doing */
        mr_au64 recycles; /* incarnations begun because the last one had grown too large */
        /* Last words, stored by the crash handler. */
        mr_au64 crash_signal, crash_code, crash_pid, crash_record;
        mr_au64 words[COUNTERS_WORDS_MAX];
        /* Test builds only: how often each fault of MILLRACE_FAULT has fired, over all incarnations. */
        mr_au64 faults_fired[COUNTERS_FAULTS_MAX];
        /* By lane where a process serves several (gateway); else index 0. */
        alignas(LAYOUT_SEPARATION) mr_au64 count[COUNTERS_N];
        mr_au64 redactions[COUNTERS_REDACTIONS]; /* assemble, post: by entity; the last: all others */
        struct calibration_shm calibration;      /* inference */
        mr_au64 lane_in_flight[LANES_MAX];
        mr_au64 lane_admitted[LANES_MAX];
        struct counters_histogram histogram[HISTOGRAMS_N];
};

uint64_t counters_bytes(void);
void counters_format(struct counters_shm *shm);
/* 0 or -EPROTO. */
int counters_check(const struct counters_shm *shm, uint64_t map_bytes);

/* Single writer: a plain load and store, no lock prefix. */
static inline void counters_add(struct counters_shm *shm, enum counter which, uint64_t n) {
        uint64_t v = atomic_load_explicit(&shm->count[which], memory_order_relaxed);
        atomic_store_explicit(&shm->count[which], v + n, memory_order_relaxed);
}
static inline void counters_set(struct counters_shm *shm, enum counter which, uint64_t v) {
        atomic_store_explicit(&shm->count[which], v, memory_order_relaxed);
}
static inline uint64_t counters_get(const struct counters_shm *shm, enum counter which) {
        return atomic_load_explicit(&shm->count[which], memory_order_relaxed);
}
static inline void counters_redacted(struct counters_shm *shm, uint32_t entity, uint64_t n) {
        uint32_t at = entity < COUNTERS_REDACTIONS ? entity : COUNTERS_REDACTIONS - 1;
        uint64_t v = atomic_load_explicit(&shm->redactions[at], memory_order_relaxed);
        atomic_store_explicit(&shm->redactions[at], v + n, memory_order_relaxed);
}
void counters_observe(struct counters_shm *shm, enum histogram which, uint64_t ns);
const char *counters_name(enum counter which);
const char *counters_sentence(enum counter which);
