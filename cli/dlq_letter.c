/*
 * dlq_letter -- one dead letter as people and programs read it.
 */
#include <string.h>

#include <msgpack.h>

#include "cli/dlq_cmd.h"
#include "cli/plain.h"

int dlq_letter_init(struct dlq_letter *l) {
        *l = (struct dlq_letter){.letter = NULL};
        return record_decoder_init(&l->decoder);
}

void dlq_letter_close(struct dlq_letter *l) {
        record_decoder_close(&l->decoder);
}

void dlq_letter_read(struct dlq_letter *l, const struct letter *letter) {
        l->letter = letter;
        l->body = (struct mr_view){letter->body, letter->body ? letter->body_len : 0};
        l->body_len = letter->body_len;
        l->whole = letter->record_len > 0 && record_decode(&l->decoder, letter->record,
                                                             letter->record_len, &l->record) == 0;
        if (!l->whole)
                l->record = (struct record){.has = 0};
        if (l->record.has & HAS(body)) {
                l->body = l->record.body;
                l->body_len = l->body.n;
        }
}

const char *dlq_letter_priority(const struct dlq_letter *l) {
        static const char *const names[] = {"system", "interactive", "default", "bulk"};

        return l->record.has & HAS(priority) && l->record.priority < 4 ? names[l->record.priority]
                                                                       : "default";
}

/* ---- for people ------------------------------------------------------------------------------ */

static void line_plain(const struct dlq_letter *l) {
        const struct letter *letter = l->letter;
        char time[PLAIN_WHEN_BYTES];

        plain_when(letter->died_ms, time);
        plain_column(letter->id.p, letter->id.n, 36);
        printf("%s ", time);
        plain_column(letter->stage.p, letter->stage.n, 9);
        printf("signal %-2u ", letter->signal);
        plain_column(l->record.model.p, l->record.model.n, 16);
        plain_column(l->record.session.p, l->record.session.n, 16);
        printf("%u\n", l->body_len);
}

static void field(const char *name, struct mr_view text) {
        if (!text.n)
                return;
        printf("%-10s", name);
        plain_print(text.p, text.n);
        putchar('\n');
}

static void print_vars(const msgpack_object *vars) {
        msgpack_sbuffer out;
        msgpack_packer pk;

        msgpack_sbuffer_init(&out);
        msgpack_packer_init(&pk, &out, msgpack_sbuffer_write);
        msgpack_pack_object(&pk, *vars);
        printf("%-10s", "vars");
        if (!cli_print_json(out.data, out.size))
                printf("not to be said in JSON\n");
        msgpack_sbuffer_destroy(&out);
}

static void print_plainly(const struct dlq_letter *l) {
        const struct letter *letter = l->letter;
        const struct record *record = &l->record;
        char time[PLAIN_WHEN_BYTES];

        plain_when(letter->died_ms, time);
        field("id", (struct mr_view){letter->id.p, letter->id.n});
        field("tenant", (struct mr_view){letter->tenant.p, letter->tenant.n});
        printf("%-10s%s\n", "when", time);
        printf("%-10s%.*s died %u times with it at hand, the last time of signal %u\n", "why",
                        (int)letter->stage.n, letter->stage.p, letter->strikes, letter->signal);
        printf("%-10s%u\n", "lane", letter->lane);
        if (!l->whole) {
                printf("%-10sthere was no room for a copy of the request\n", "request");
                return;
        }
        field("session", record->session);
        field("model", record->model);
        field("system", record->system);
        field("template", record->template);
        if (record->has & HAS(vars))
                print_vars(record->vars);
        field("params", record->params);
        printf("%-10s%s\n", "priority", dlq_letter_priority(l));
        if (record->options & (OPTION_RAG_ON | OPTION_RAG_OFF))
                printf("%-10s%s\n", "rag", record->options & OPTION_RAG_ON ? "on" : "off");
        printf("%-10s%s\n", "detached", record->options & OPTION_DETACH ? "yes" : "no");
        printf("%-10s%u bytes%s\n\n", "body", l->body_len,
                        record->options & OPTION_BODY_BUILT ? ", made from prompt or messages" : "");
        fwrite(l->body.p, 1, l->body.n, stdout);
        putchar('\n');
}

/* ---- for programs ---------------------------------------------------------------------------- */

static void key(msgpack_packer *pk, const char *name) {
        msgpack_pack_str_with_body(pk, name, strlen(name));
}

static void put_u64(msgpack_packer *pk, const char *name, uint64_t value) {
        key(pk, name);
        msgpack_pack_uint64(pk, value);
}

static void put_bool(msgpack_packer *pk, const char *name, bool value) {
        key(pk, name);
        if (value)
                msgpack_pack_true(pk);
        else
                msgpack_pack_false(pk);
}

/* What is not there is null. */
static void put_text(msgpack_packer *pk, const char *name, struct mr_view text) {
        key(pk, name);
        if (text.n)
                msgpack_pack_str_with_body(pk, text.p, text.n);
        else
                msgpack_pack_nil(pk);
}

#define LINE_KEYS 11u

static void put_line(msgpack_packer *pk, const struct dlq_letter *l) {
        const struct letter *letter = l->letter;
        char time[PLAIN_WHEN_BYTES];

        plain_when(letter->died_ms, time);
        put_text(pk, "id", (struct mr_view){letter->id.p, letter->id.n});
        put_text(pk, "tenant", (struct mr_view){letter->tenant.p, letter->tenant.n});
        put_text(pk, "when", (struct mr_view){time, (uint32_t)strlen(time)});
        put_u64(pk, "died_ms", (uint64_t)letter->died_ms);
        put_text(pk, "stage", (struct mr_view){letter->stage.p, letter->stage.n});
        put_u64(pk, "lane", letter->lane);
        put_u64(pk, "strikes", letter->strikes);
        put_u64(pk, "signal", letter->signal);
        put_text(pk, "model", l->record.model);
        put_text(pk, "session", l->record.session);
        put_u64(pk, "bytes", l->body_len);
}

static void put_request(msgpack_packer *pk, const struct dlq_letter *l) {
        const struct record *record = &l->record;
        uint64_t options = record->options;

        put_bool(pk, "whole", l->whole);
        put_text(pk, "system", record->system);
        put_text(pk, "template", record->template);
        key(pk, "vars");
        if (record->has & HAS(vars))
                msgpack_pack_object(pk, *record->vars);
        else
                msgpack_pack_nil(pk);
        put_text(pk, "params", record->params);
        put_text(pk, "priority",
                        (struct mr_view){dlq_letter_priority(l),
                                        (uint32_t)strlen(dlq_letter_priority(l))});
        key(pk, "rag");
        if (options & (OPTION_RAG_ON | OPTION_RAG_OFF))
                (options & OPTION_RAG_ON ? msgpack_pack_true : msgpack_pack_false)(pk);
        else
                msgpack_pack_nil(pk);
        put_bool(pk, "detach", options & OPTION_DETACH);
        put_bool(pk, "built", options & OPTION_BODY_BUILT);
        put_text(pk, "body", l->body);
}

#define REQUEST_KEYS 10u

static void print_json(const struct dlq_letter *l, bool whole) {
        msgpack_sbuffer out;
        msgpack_packer pk;

        msgpack_sbuffer_init(&out);
        msgpack_packer_init(&pk, &out, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, whole ? LINE_KEYS + REQUEST_KEYS : LINE_KEYS);
        put_line(&pk, l);
        if (whole)
                put_request(&pk, l);
        if (!cli_print_json(out.data, out.size))
                cli_error("dlq", "a letter cannot be printed as JSON");
        msgpack_sbuffer_destroy(&out);
}

void dlq_letter_print_line(const struct dlq_letter *l, bool json) {
        if (json)
                print_json(l, false);
        else
                line_plain(l);
}

void dlq_letter_print(const struct dlq_letter *l, bool json) {
        if (json)
                print_json(l, true);
        else
                print_plainly(l);
}
