/*
 * Post: folds into its slab. Two requests side by side, so that a batch touches both; characters cut in two,
 * so that bytes wait in the slab; every fourth request ends in an error, and every fourth other one runs anew
 * after its first delta, of which a byte waits. With POST_REDACT an address and a placeholder are cut in
 * two as well, what the latter stands for comes with the head, and half of an address is dropped with the error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/steps/hop.h"

#define STEPS 5u

#if POST_REDACT
#define NAME "post_redact"
#define FIRST "a@b.c"
#define SECOND "om <EM_"
#define THIRD "1> x@y.co"
#define WHOLE "<EMAIL_ADDRESS> s@t.com <EMAIL_ADDRESS>"
#define FAILED "<EMAIL_ADDRESS> s@t.com "
#define ANEW "1> <EMAIL_ADDRESS>"
#else
#define NAME "post"
#define FIRST "Gr\xc3"
#define SECOND "\xbc\xc3\x9f" "e [1]"
#define THIRD " an alle \xe2\x82"
#define WHOLE "Gr\u00fc\u00dfe [1] an alle \ufffd"
#define FAILED "Gr\u00fc\u00dfe [1] an alle "
#define ANEW " an alle \ufffd"
#endif

static const char *const texts[STEPS] = {"", FIRST, SECOND, THIRD, ""};

/* A note of assemble's: <EM_1> is s@t.com. */
static const char note[] = "\x92\x80\x91\x94\xa2" "EM\x01\x01\xa7" "s@t.com";

static bool fails(uint64_t req) {
        return req % 4 == 0;
}

static bool runs_anew(uint64_t req) {
        return req % 4 == 2;
}

static uint32_t input(uint64_t n, struct ring_meta *meta, uint8_t *to) {
        uint64_t pair = (n - 1) / (2 * STEPS), step = (n - 1) % (2 * STEPS) / 2;
        uint64_t req = 2 * pair + 1 + (n - 1) % 2;
        struct record record = {.has = 0};
        char id[16];

        *meta = (struct ring_meta){.type = RECORD_DELTA, .req_id = req, .ord = (uint32_t)step};
        if (step == 0) {
                snprintf(id, sizeof(id), "id-%u", (unsigned)req);
                *meta = (struct ring_meta){
                                .type = RECORD_REQUEST, .req_id = req, .flags = RING_HEAD};
                record.has = HAS(gateway) | HAS(id) | HAS(tenant);
                record.id = hop_view(id);
                record.tenant = hop_view("local");
                if (POST_REDACT) {
                        record.has |= HAS(redacted);
                        record.redacted = hop_view(note);
                }
        } else if (step == 2 && runs_anew(req)) {
                meta->type = RECORD_RESTART;
        } else if (step + 1 < STEPS) {
                record.has = HAS(text);
                record.text = hop_view(texts[step]);
        } else if (fails(req)) {
                meta->type = RECORD_ERROR;
                meta->flags = RING_LAST | RING_ERROR;
                record.has = HAS(code) | HAS(message);
                record.code = MR_E_upstream_error;
                record.message = hop_view("gone");
        } else {
                meta->type = RECORD_DONE;
                meta->flags = RING_LAST;
                record.has = HAS(finish_reason) | HAS(completion_tokens);
                record.finish_reason = hop_view("stop");
                record.completion_tokens = req;
        }
        return hop_put_record(&record, to);
}

static bool right(void) {
        for (uint64_t req = 1; req <= hop.n_limit / STEPS; req++)
                if (strcmp(hop.text[req], fails(req) ? FAILED : runs_anew(req) ? ANEW : WHOLE) != 0)
                        return false;
        return true;
}

static void settings(struct settings *to) {
        if (!POST_REDACT)
                return;
        to->memory.ring_bytes = hop_case.out.bytes; /* an eighth is room for what redaction adds */
        to->post.redact.entities.v = calloc(1, sizeof(char *));
        STEPS_REQUIRE(to->post.redact.entities.v);
        to->post.redact.entities.v[0] = strdup("EMAIL_ADDRESS");
        to->post.redact.entities.n = 1;
}

const struct hop_case hop_case = {
                .name = NAME,
                .role = ROLE_POST,
                .settings = settings,
                .in = {.id = 1, .n = 16, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                .out = {.id = 2, .n = 128, .max_batch = 64, .max_rec = 4096, .bytes = 32768},
                .n_slots = 2,
                .n_units = 4 + 4 * POST_REDACT,
                .per_request = STEPS,
                .n_warm = 20,
                .n_inputs = POST_REDACT ? 30 : 40, /* every instruction of a search counts */
                .ordered = true,
                .input = input,
                .take = hop_take_record,
                .right = right,
};
