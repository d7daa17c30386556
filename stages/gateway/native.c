#include "stages/gateway/native.h"

#include <string.h>

#include "shm/admission.h"
#include "stages/gateway/pull.h"

enum field {
        AT_OP,
        AT_ID,
        AT_SESSION,
        AT_PROMPT,
        AT_MESSAGES,
        AT_BODY,
        AT_MODEL,
        AT_SYSTEM,
        AT_TEMPLATE,
        AT_VARS,
        AT_PRIORITY,
        AT_DEADLINE,
        AT_RAG,
        AT_COLLECTIONS,
        AT_FILTER,
        AT_DETACH,
        AT_STREAM,
        AT_PARAMS,
        AT_KEY,
        AT_AFTER,
        FIELDS_OF_ASK,
};

#define SUBMIT (1u << OP_SUBMIT)
#define ATTACH (1u << OP_ATTACH)
#define NAMED (1u << OP_SUBMIT | 1u << OP_ATTACH | 1u << OP_CANCEL | 1u << OP_RESULT)

static const struct {
        const char *name;
        enum pull_type type;
        uint32_t ops;       /* which operations read it */
        uint32_t max_bytes; /* of a text; 0: only the frame bounds it */
} rows[FIELDS_OF_ASK] = {
                [AT_OP] = {"op", PULL_STR, 0, 0},
                [AT_ID] = {"id", PULL_STR, NAMED, ADMISSION_ID_MAX},
                [AT_SESSION] = {"session", PULL_STR, SUBMIT, ASK_NAME_MAX},
                [AT_PROMPT] = {"prompt", PULL_STR, SUBMIT, 0},
                [AT_MESSAGES] = {"messages", PULL_ARRAY, SUBMIT, 0},
                [AT_BODY] = {"body", PULL_STR, SUBMIT, 0},
                [AT_MODEL] = {"model", PULL_STR, SUBMIT, ASK_NAME_MAX},
                [AT_SYSTEM] = {"system", PULL_STR, SUBMIT, 0},
                [AT_TEMPLATE] = {"template", PULL_STR, SUBMIT, ASK_NAME_MAX},
                [AT_VARS] = {"vars", PULL_MAP, SUBMIT, 0},
                [AT_PRIORITY] = {"priority", PULL_STR, SUBMIT, 0},
                [AT_DEADLINE] = {"deadline_ms", PULL_UINT, SUBMIT, 0},
                [AT_RAG] = {"rag", PULL_BOOL, SUBMIT, 0},
                [AT_COLLECTIONS] = {"rag_collections", PULL_STR, SUBMIT, ASK_LIST_MAX},
                [AT_FILTER] = {"rag_filter", PULL_STR, SUBMIT, ASK_LIST_MAX},
                [AT_DETACH] = {"detach", PULL_BOOL, SUBMIT, 0},
                [AT_STREAM] = {"stream", PULL_BOOL, SUBMIT, 0},
                [AT_PARAMS] = {"params", PULL_MAP, SUBMIT, 0},
                [AT_KEY] = {"key", PULL_STR, NAMED, ASK_NAME_MAX},
                [AT_AFTER] = {"after", PULL_UINT, ATTACH, 0},
};

/* The fields of one frame as they came; nil and absent are the same. */
struct frame {
        uint32_t has;
        struct pull_item item[FIELDS_OF_ASK];
        struct mr_view raw[FIELDS_OF_ASK];
};

#define BAD(error, ...) ask_fail(error, MR_E_invalid_request, __VA_ARGS__)

static int field_of(struct mr_view name) {
        for (int i = 0; i < FIELDS_OF_ASK; i++)
                if (strlen(rows[i].name) == name.n && memcmp(rows[i].name, name.p, name.n) == 0)
                        return i;
        return -1;
}

static int frame_read(
                const uint8_t *bytes, uint32_t len, struct frame *ret, struct ask_error *error) {
        struct pull from = {bytes, bytes + len};
        struct pull_item map = {0}, key = {0};

        ret->has = 0;
        if (pull_item(&from, &map) < 0 || map.type != PULL_MAP)
                return BAD(error, "expected a map, got %s", pull_type_name(map.type));
        for (uint32_t i = 0; i < map.count; i++) {
                struct pull value;
                int field;

                if (pull_item(&from, &key) < 0)
                        return BAD(error, "not msgpack");
                if (key.type != PULL_STR)
                        return BAD(error, "key %u of the map: expected a string, got %s", i + 1,
                                        pull_type_name(key.type));
                field = field_of(key.view);
                value = from;
                if (pull_value(&from, field < 0 ? NULL : &ret->raw[field]) < 0)
                        return BAD(error, "not msgpack");
                if (field < 0)
                        continue;
                pull_item(&value, &ret->item[field]);
                ret->has &= ~(1u << field);
                if (ret->item[field].type != PULL_NIL)
                        ret->has |= 1u << field;
        }
        return 0;
}

static bool has(const struct frame *f, enum field field) {
        return f->has & 1u << field;
}

static int id_read(const struct frame *f, struct ask *ret, struct ask_error *error) {
        const struct pull_item *item = &f->item[AT_ID];

        if (!has(f, AT_ID))
                return 0;
        if (item->type != PULL_STR)
                return BAD(error, "id: expected a string, got %s", pull_type_name(item->type));
        if (item->view.n == 0)
                return BAD(error, "id: empty");
        if (ask_text_check("id", item->view, ADMISSION_ID_MAX, error))
                return (int)error->code;
        ret->id = item->view;
        return 0;
}

static bool op_is(const struct frame *f, const char *name) {
        const struct pull_item *item = &f->item[AT_OP];

        return has(f, AT_OP) && item->type == PULL_STR && item->view.n == strlen(name) &&
               memcmp(item->view.p, name, item->view.n) == 0;
}

static int op_read(const struct frame *f, struct ask *ret, struct ask_error *error) {
        static const char *const names[OPS_N] = {"submit", "attach", "cancel", "result", "ping"};
        const struct pull_item *item = &f->item[AT_OP];

        if (!has(f, AT_OP))
                return BAD(error, "op: missing; expected submit, attach, cancel, result or ping");
        if (item->type != PULL_STR)
                return BAD(error, "op: expected a string, got %s", pull_type_name(item->type));
        for (int i = 0; i < OPS_N; i++)
                if (op_is(f, names[i])) {
                        ret->op = (enum ask_op)i;
                        return 0;
                }
        if (ask_text_check("op", item->view, 32, error))
                return (int)error->code;
        return BAD(error, "op: unknown \"%.*s\"; expected submit, attach, cancel, result or ping",
                        (int)item->view.n, item->view.p);
}

/* Every field that this operation reads has its type. */
static int types_check(const struct frame *f, enum ask_op op, struct ask_error *error) {
        for (int i = 0; i < FIELDS_OF_ASK; i++) {
                const struct pull_item *item = &f->item[i];
                static const char *const wanted[] = {[PULL_STR] = "a string",
                                [PULL_ARRAY] = "an array",
                                [PULL_MAP] = "a map",
                                [PULL_BOOL] = "a boolean",
                                [PULL_UINT] = "an integer of at least 0"};

                if (!has(f, (enum field)i) || !(rows[i].ops & 1u << op) || i == AT_ID)
                        continue;
                if (i == AT_BODY && item->type == PULL_BIN)
                        continue;
                if (item->type != rows[i].type)
                        return BAD(error, "%s: expected %s, got %s", rows[i].name,
                                        i == AT_BODY ? "a string or binary data"
                                                     : wanted[rows[i].type],
                                        pull_type_name(item->type));
                if (item->type == PULL_STR && i != AT_BODY &&
                                ask_text_check(rows[i].name, item->view, rows[i].max_bytes, error))
                        return (int)error->code;
        }
        return 0;
}

static int content_read(const struct frame *f, struct ask *ret, struct ask_error *error) {
        uint32_t given = f->has & (1u << AT_PROMPT | 1u << AT_MESSAGES | 1u << AT_BODY);

        if (__builtin_popcount(given) != 1)
                return BAD(error, "%s one of prompt, messages and body must be given",
                                given ? "only" : "prompt: missing;");
        if (has(f, AT_MESSAGES)) {
                ret->content = CONTENT_MESSAGES;
                ret->messages = f->raw[AT_MESSAGES];
                return 0;
        }
        ret->content = has(f, AT_PROMPT) ? CONTENT_PROMPT : CONTENT_BODY;
        ret->text = f->item[has(f, AT_PROMPT) ? AT_PROMPT : AT_BODY].view;
        if (ret->text.n == 0)
                return BAD(error, "%s: empty", has(f, AT_PROMPT) ? "prompt" : "body");
        return 0;
}

static int priority_read(const struct frame *f, struct ask *ret, struct ask_error *error) {
        ret->priority = PRIORITY_DEFAULT;
        return has(f, AT_PRIORITY) ? ask_priority_read("priority", f->item[AT_PRIORITY].view,
                                                     &ret->priority, error)
                                   : 0;
}

static struct mr_view text_of(const struct frame *f, enum field field) {
        return has(f, field) ? f->item[field].view : (struct mr_view){0};
}

static int submit_read(const struct frame *f, struct ask *ret, struct ask_error *error) {
        if (content_read(f, ret, error) || priority_read(f, ret, error))
                return (int)error->code;
        if (has(f, AT_DEADLINE) && f->item[AT_DEADLINE].v.u == 0)
                return BAD(error, "deadline_ms: expected more than 0");
        ret->deadline_ms = has(f, AT_DEADLINE) ? f->item[AT_DEADLINE].v.u : 0;
        ret->session = text_of(f, AT_SESSION);
        ret->model = text_of(f, AT_MODEL);
        ret->system = text_of(f, AT_SYSTEM);
        ret->template_name = text_of(f, AT_TEMPLATE);
        ret->collections = text_of(f, AT_COLLECTIONS);
        ret->filter = text_of(f, AT_FILTER);
        if (ask_list_check("rag_collections", ret->collections, false, error) ||
                        ask_list_check("rag_filter", ret->filter, true, error))
                return (int)error->code;
        if (has(f, AT_VARS))
                ret->vars = f->raw[AT_VARS];
        if (has(f, AT_PARAMS))
                ret->params = f->raw[AT_PARAMS];
        if (!has(f, AT_STREAM) || f->item[AT_STREAM].v.b)
                ret->options |= OPTION_STREAM;
        if (has(f, AT_DETACH) && f->item[AT_DETACH].v.b)
                ret->options |= OPTION_DETACH;
        if (has(f, AT_RAG))
                ret->options |= f->item[AT_RAG].v.b ? OPTION_RAG_ON : OPTION_RAG_OFF;
        return 0;
}

int native_parse(const uint8_t *bytes, uint32_t len, struct ask *ret,
                struct ask_error *ret_error) {
        struct frame f;

        *ret = (struct ask){0};
        ret_error->code = MR_E_none;
        if (frame_read(bytes, len, &f, ret_error))
                return (int)ret_error->code;
        if (op_is(&f, "ping")) { /* reads nothing, so nothing can be wrong with it */
                ret->op = OP_PING;
                return 0;
        }
        if (id_read(&f, ret, ret_error) || op_read(&f, ret, ret_error) ||
                        types_check(&f, ret->op, ret_error))
                return (int)ret_error->code;
        if (ret->op == OP_SUBMIT)
                return submit_read(&f, ret, ret_error);
        if (ret->id.n == 0)
                return BAD(ret_error, "id: missing");
        ret->after = has(&f, AT_AFTER) ? f.item[AT_AFTER].v.u : 0;
        return 0;
}

bool native_is_map(const uint8_t *bytes, uint32_t len) {
        struct pull from = {bytes, bytes + len};
        struct pull_item item;

        return pull_item(&from, &item) == 0 && item.type == PULL_MAP;
}
