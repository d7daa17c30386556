/*
 * Rag: claims into its slab. RAG_QUERIES 0: without an index, claimed and answered in one batch; 1: claimed
 * and acknowledged at once, and answered when its threads have looked into an index that is not there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/steps/hop.h"

static void configure(struct settings *settings) {
        free(settings->rag.index);
        settings->rag.index = strdup(RAG_QUERIES ? "/nonexistent/steps.index" : "none");
        STEPS_REQUIRE(settings->rag.index);
        settings->rag.on_error = SETTINGS_ON_ERROR_FAIL;
        settings->rag.timeout_ms = 60000; /* however slowly it is stepped */
}

static uint32_t input(uint64_t n, struct ring_meta *meta, uint8_t *to) {
        struct record record = {.has = HAS(gateway) | HAS(id) | HAS(tenant) | HAS(query)};
        char id[16], query[64];

        snprintf(id, sizeof(id), "id-%u", (unsigned)n);
        snprintf(query, sizeof(query), "question number %u", (unsigned)n);
        record.id = hop_view(id);
        record.tenant = hop_view("local");
        record.query = hop_view(query);
        *meta = (struct ring_meta){.type = RECORD_REQUEST, .req_id = n};
        return hop_put_record(&record, to);
}

static bool right(void) {
        for (uint64_t n = 1; n <= hop.n_limit; n++)
                if (hop.n_outputs[n] != 1)
                        return false;
        return true;
}

const struct hop_case hop_case = {
                .name = RAG_QUERIES ? "rag-queries" : "rag",
                .role = ROLE_RAG,
                .in = {.id = 1, .n = 8, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                .out = {.id = 2, .n = 8, .max_batch = 4, .max_rec = 4096, .bytes = 16384},
                .n_slots = 3,
                .n_units = 4,
                .per_request = 1,
                .n_warm = 11,
                .n_inputs = 17,
                .ordered = !RAG_QUERIES,
                .busy = RAG_QUERIES,
                .settings = configure,
                .input = input,
                .take = hop_take_record,
                .right = right,
};
