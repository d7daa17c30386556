/*
 * Inference with the echo worker: the claim is a batch without outputs and is acknowledged at once, answers
 * of several requests interleave, a slot is kept until its last record was passed. Two of four requests are
 * detached: one runs anew as often as it is lost, the other one has a reader.
 */
#include <stdio.h>
#include <string.h>

#include "stages/engines/json/marks.h"
#include "stages/inference/inference.h"
#include "tests/steps/hop.h"

static void text_of(uint64_t n, char to[static 64]) {
        snprintf(to, 64, "say %u words, no more and no less than that", (unsigned)n);
}

static void configure(struct settings *settings) {
        settings->inference.workers.v[0].kind = SETTINGS_WORKER_ECHO;
}

static bool reruns(uint64_t req) {
        return req % 4 == 1;
}

static bool is_read(uint64_t req) {
        return req % 4 == 2;
}

static uint32_t input(uint64_t n, struct ring_meta *meta, uint8_t *to) {
        struct record record = {.has = HAS(gateway) | HAS(id) | HAS(tenant) | HAS(model) |
                                       HAS(body) | HAS(body_len) | HAS(marks)};
        struct body_marks marks = {.n_messages = 1};
        char body[256], id[16], text[64];

        text_of(n, text);
        snprintf(id, sizeof(id), "id-%u", (unsigned)n);
        snprintf(body, sizeof(body), "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}", text);
        marks.last_user = (struct body_span){
                        (uint32_t)(strstr(body, text) - body) - 1, (uint32_t)strlen(text) + 2};
        marks.object_end = (uint32_t)strlen(body) - 1;
        record.id = hop_view(id);
        record.tenant = hop_view("local");
        record.model = hop_view("any");
        record.body = hop_view(body);
        record.body_len = record.body.n;
        record.marks = (struct mr_view){(const char *)&marks, sizeof(marks)};
        if (reruns(n) || is_read(n)) {
                record.has |= HAS(options);
                record.options = OPTION_DETACH;
        }
        *meta = (struct ring_meta){.type = RECORD_REQUEST, .req_id = n, .flags = RING_LAST};
        if (n % 4 == 0) {
                meta->type = RECORD_ERROR;
                record.has |= HAS(code) | HAS(message);
                record.code = MR_E_internal;
                record.message = hop_view("raised by rag");
        }
        return hop_put_record(&record, to);
}

static bool right(void) {
        for (uint64_t n = 1; n <= hop.n_limit; n++) {
                char text[64];
                text_of(n, text);
                if (strcmp(hop.text[n], n % 4 == 0 ? "" : text) != 0)
                        return false;
        }
        return true;
}

/* The suites link inference as a library: its main.c is this line. */
int stage_main(int argc, char **argv) {
        return worker_main(&inference_ops, argc, argv);
}

const struct hop_case hop_case = {
                .name = "inference",
                .role = ROLE_INFERENCE,
                .in = {.id = 1, .n = 8, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                .out = {.id = 2, .n = 32, .max_batch = 8, .max_rec = 4096, .bytes = 16384},
                .n_slots = 3,
                .n_units = 4,
                .per_request = 1,
                .n_warm = 6,
                .n_inputs = 11,
                .restarts = true,
                .reruns = reruns,
                .is_read = is_read,
                .settings = configure,
                .input = input,
                .take = hop_take_record,
                .right = right,
};
