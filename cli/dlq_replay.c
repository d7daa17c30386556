/*
 * dlq_replay -- a dead letter is submitted again.
 *
 * Its own id is taken: dead_letter is no error after which an id may run anew. So it gets another one, made
 * from the number of the request that died: however often a replay is interrupted, it runs once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <msgpack.h>
#include <yajl/yajl_tree.h>

#include "cli/dlq_cmd.h"

#define ANSWER_MS 10000
#define TRIES 50
#define PAUSE_NS 100000000L
#define NEW_ID_BYTES 32

struct replay {
        struct store *store;
        const struct dlq_options *options;
        struct millrace *m;
        struct dlq_letter letter;
        const char *id; /* as it was asked for */
        char new_id[NEW_ID_BYTES];
        int64_t n;
        msgpack_sbuffer frame; /* empty: there is nothing to be replayed */
};

/* ---- the frame ----------------------------------------------------------------------------- */

static void put_str(msgpack_packer *pk, const char *text, size_t n) {
        msgpack_pack_str_with_body(pk, text, n);
}

static void put_key(msgpack_packer *pk, const char *key) {
        put_str(pk, key, strlen(key));
}

static void put_json(msgpack_packer *pk, yajl_val v) {
        if (YAJL_IS_STRING(v)) {
                put_key(pk, YAJL_GET_STRING(v));
        } else if (YAJL_IS_INTEGER(v)) {
                msgpack_pack_int64(pk, YAJL_GET_INTEGER(v));
        } else if (YAJL_IS_NUMBER(v)) {
                msgpack_pack_double(pk, YAJL_GET_DOUBLE(v));
        } else if (YAJL_IS_ARRAY(v)) {
                msgpack_pack_array(pk, v->u.array.len);
                for (size_t i = 0; i < v->u.array.len; i++)
                        put_json(pk, v->u.array.values[i]);
        } else {
                msgpack_pack_nil(pk);
        }
}

/* Members as they are set in a client's own body (`"temperature":0.5,...`), back to a map. */
static int put_params(msgpack_packer *pk, struct mr_view params) {
        char *json = malloc((size_t)params.n + 3), why[128];
        yajl_val v;

        if (!json)
                return -ENOMEM;
        snprintf(json, (size_t)params.n + 3, "{%.*s}", (int)params.n, params.p);
        v = yajl_tree_parse(json, why, sizeof(why));
        free(json);
        if (!YAJL_IS_OBJECT(v)) {
                yajl_tree_free(v);
                return -EPROTO;
        }
        put_key(pk, "params");
        msgpack_pack_map(pk, v->u.object.len);
        for (size_t i = 0; i < v->u.object.len; i++) {
                put_key(pk, v->u.object.keys[i]);
                put_json(pk, v->u.object.values[i]);
        }
        yajl_tree_free(v);
        return 0;
}

/* Everything that was asked, but for the deadline, which has passed. libmillrace has no call for all of
 * it. 0, -ENOMEM, -EPROTO. */
static int put_submit(msgpack_packer *pk, const struct dlq_letter *l, const char *id) {
        const struct record *record = &l->record;
        const struct {
                const char *key;
                struct mr_view text;
        } texts[] = {{"session", record->session}, {"model", record->model},
                        {"system", record->system}, {"template", record->template}};
        bool rag = record->options & (OPTION_RAG_ON | OPTION_RAG_OFF);
        size_t n = 5;

        for (size_t i = 0; i < 4; i++)
                n += texts[i].text.n > 0;
        n += rag + ((record->has & HAS(vars)) != 0) + (record->params.n > 0);
        msgpack_pack_map(pk, n);
        put_key(pk, "op");
        put_key(pk, "submit");
        put_key(pk, "id");
        put_key(pk, id);
        put_key(pk, "detach");
        msgpack_pack_true(pk);
        put_key(pk, "priority");
        put_key(pk, dlq_letter_priority(l));
        for (size_t i = 0; i < 4; i++) {
                if (!texts[i].text.n)
                        continue;
                put_key(pk, texts[i].key);
                put_str(pk, texts[i].text.p, texts[i].text.n);
        }
        if (rag) {
                put_key(pk, "rag");
                (record->options & OPTION_RAG_ON ? msgpack_pack_true : msgpack_pack_false)(pk);
        }
        if (record->has & HAS(vars)) {
                put_key(pk, "vars");
                msgpack_pack_object(pk, *record->vars);
        }
        put_key(pk, "body");
        msgpack_pack_bin_with_body(pk, l->body.p, l->body.n);
        return record->params.n ? put_params(pk, record->params) : 0;
}

/* ---- asking -------------------------------------------------------------------------------- */

static int send_all(struct millrace *m, const msgpack_sbuffer *frame) {
        size_t at = 0;

        while (at < frame->size) {
                ssize_t n = send(millrace_fd(m), frame->data + at, frame->size - at, MSG_NOSIGNAL);

                if (n == -1 && errno == EINTR)
                        continue;
                if (n == -1)
                        return errno == EPIPE || errno == ECONNRESET ? MILLRACE_E_CLOSED : -errno;
                at += (size_t)n;
        }
        return 0;
}

static int ask_once(struct replay *replay, struct millrace_event *ev) {
        int r = replay->m ? 0 : millrace_connect(&replay->m, replay->options->socket);

        if (r == 0)
                r = send_all(replay->m, &replay->frame);
        if (r == 0)
                r = millrace_next(replay->m, ANSWER_MS, ev);
        if (r == 0)
                return 0;
        millrace_close(replay->m);
        replay->m = NULL;
        return r;
}

/* A gateway that is replaced closes its connections; to ask again under one id changes nothing. */
static int ask(struct replay *replay, struct millrace_event *ev) {
        const struct timespec pause = {.tv_nsec = PAUSE_NS};
        int r = ask_once(replay, ev);

        for (int i = 0; i < TRIES && (r == MILLRACE_E_CLOSED || r == MILLRACE_E_UNREACHABLE); i++) {
                nanosleep(&pause, NULL);
                r = ask_once(replay, ev);
        }
        return r;
}

static void say(const struct replay *replay) {
        msgpack_sbuffer out;
        msgpack_packer pk;

        if (!replay->options->json) {
                printf("%s runs again as %s\n", replay->id, replay->new_id);
                return;
        }
        msgpack_sbuffer_init(&out);
        msgpack_packer_init(&pk, &out, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 2);
        put_key(&pk, "id");
        put_key(&pk, replay->id);
        put_key(&pk, "new_id");
        put_key(&pk, replay->new_id);
        cli_print_json(out.data, out.size);
        msgpack_sbuffer_destroy(&out);
}

/* Nothing is asked from in here: the store is being read, and could not be written. */
static int prepare(void *ctx, const struct letter *letter) {
        struct replay *replay = ctx;
        msgpack_packer pk;

        replay->n = letter->n;
        dlq_letter_read(&replay->letter, letter);
        /* The socket takes chat completions only. */
        if (!replay->letter.whole || !replay->letter.body.n || replay->letter.record.endpoint)
                return 0;
        snprintf(replay->new_id, sizeof(replay->new_id), "dlq-%016llx",
                        (unsigned long long)letter->req_id);
        msgpack_packer_init(&pk, &replay->frame, msgpack_sbuffer_write);
        if (put_submit(&pk, &replay->letter, replay->new_id))
                replay->frame.size = 0;
        return 0;
}

static int run_again(struct replay *replay) {
        struct millrace_event ev;
        int r = ask(replay, &ev);

        if (r)
                return cli_client_failed("dlq", r);
        if (ev.kind != MILLRACE_ACCEPTED) {
                cli_error("dlq", "%s: %s: %s", replay->id, ev.code ? ev.code : "error",
                                ev.message ? ev.message : "");
                return CLI_FAILED;
        }
        say(replay);
        r = letters_drop(replay->store, replay->n);
        if (r == 0 || r == STORE_E_NONE)
                return CLI_DONE;
        cli_error("dlq", "%s: it stays in the database: %s", replay->id, store_why(replay->store));
        return CLI_FAILED;
}

static int replay_one(struct replay *replay, const char *id) {
        int r;

        replay->id = id;
        replay->frame.size = 0;
        r = letters_find(replay->store, (struct results_text){id, (uint32_t)strlen(id)}, prepare, replay);
        if (r == 0 && replay->frame.size > 0)
                return run_again(replay);
        if (r == 0)
                cli_error("dlq", "%s: it cannot run again: %s", id,
                                replay->letter.record.endpoint ? "it is no chat completion"
                                                               : "the request is not whole");
        else
                cli_error("dlq", "%s: %s", id,
                                r == STORE_E_NONE ? "no dead letter has this id"
                                                  : store_why(replay->store));
        return CLI_FAILED;
}

int dlq_replay(struct store *store, const struct dlq_options *options) {
        struct replay replay = {.store = store, .options = options};
        int exit_code = CLI_DONE, r = dlq_letter_init(&replay.letter);

        if (r < 0)
                return cli_client_failed("dlq", r);
        msgpack_sbuffer_init(&replay.frame);
        exit_code = cli_connect("dlq", options->socket, &replay.m);
        for (int i = 0; exit_code != CLI_UNREACHABLE && i < options->n_ids; i++) {
                r = replay_one(&replay, options->ids[i]);
                if (r != CLI_DONE)
                        exit_code = r;
        }
        millrace_close(replay.m);
        msgpack_sbuffer_destroy(&replay.frame);
        dlq_letter_close(&replay.letter);
        return exit_code;
}
