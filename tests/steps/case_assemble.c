/* Assemble: acks in place, one output for each input; requests, and errors that travel on. At some of them the
 * stage has died of itself before: one runs alone, another's next death is its last, a third is given up. */
#include <stdio.h>
#include <string.h>

#include "stages/engines/json/marks.h"
#include "tests/steps/hop.h"

static struct body_span span_of(const char *body, const char *what) {
        return (struct body_span){(uint32_t)(strstr(body, what) - body), (uint32_t)strlen(what)};
}

static uint32_t input(uint64_t n, struct ring_meta *meta, uint8_t *to) {
        struct record record = {.has = HAS(gateway) | HAS(id) | HAS(tenant) | HAS(body) |
                                       HAS(body_len) | HAS(marks)};
        struct body_marks marks = {.n_messages = 1};
        char body[128], id[16], content[32];

        snprintf(id, sizeof(id), "id-%u", (unsigned)n);
        snprintf(content, sizeof(content), "\"why %u?\"", (unsigned)n);
        snprintf(body, sizeof(body), "{\"messages\":[{\"role\":\"user\",\"content\":%s}]}", content);
        marks.messages = span_of(body, strchr(body, '['));
        marks.messages.len--;
        marks.last_user = span_of(body, content);
        marks.object_end = (uint32_t)strlen(body) - 1;
        record.id = hop_view(id);
        record.tenant = hop_view("local");
        record.body = hop_view(body);
        record.body_len = record.body.n;
        record.marks = (struct mr_view){(const char *)&marks, sizeof(marks)};
        *meta = (struct ring_meta){.type = RECORD_REQUEST, .req_id = n, .flags = RING_LAST};
        if (n % 4 == 0) {
                meta->type = RECORD_ERROR;
                record.has |= HAS(code) | HAS(message);
                record.code = MR_E_internal;
                record.message = hop_view("raised by rag");
        } else if (n % 4 == 1) {
                record.has |= HAS(system);
                record.system = hop_view("be brief");
        }
        return hop_put_record(&record, to);
}

static uint32_t strikes(uint64_t n) {
        return n % 8 == 6 ? 1 : n % 8 == 7 ? POISON_STRIKES - 1 : n % 8 == 5 ? POISON_STRIKES : 0;
}

static bool right(void) {
        for (uint64_t n = 1; n <= hop.n_limit; n++)
                if (hop.n_outputs[n] != 1)
                        return false;
        return true;
}

const struct hop_case hop_case = {
                .name = "assemble",
                .role = ROLE_ASSEMBLE,
                .in = {.id = 1, .n = 8, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                .out = {.id = 2, .n = 8, .max_batch = 4, .max_rec = 4096, .bytes = 16384},
                .per_request = 1,
                .n_warm = 11,
                .n_inputs = 17,
                .ordered = true,
                .strikes = strikes,
                .input = input,
                .take = hop_take_record,
                .right = right,
};
