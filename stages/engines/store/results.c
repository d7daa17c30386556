#include "stages/engines/store/statement.h"

/* ---- storing ---- */

static int row_of(struct store *store, const struct results_response *response, int64_t *ret_row) {
        struct sqlite3_stmt *s = store_statement(store, SQL_RESULT_ROW);
        int code;

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, (int64_t)response->req_id);
        statement_bind(s, 2, response->tenant);
        statement_bind(s, 3, response->id);
        code = sqlite3_step(s);
        if (code == SQLITE_ROW)
                *ret_row = sqlite3_column_int64(s, 0);
        sqlite3_reset(s);
        return code == SQLITE_ROW ? 0 : STORE_E_FAILED;
}

int results_put(struct store *store, const struct results_response *response, int64_t *ret_row) {
        struct sqlite3_stmt *s = store_statement(store, SQL_RESULT_PUT);
        int r;

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, (int64_t)response->req_id);
        statement_bind(s, 2, response->tenant);
        statement_bind(s, 3, response->id);
        sqlite3_bind_int64(s, 4, response->lane);
        sqlite3_bind_int64(s, 5, (int64_t)response->outcome);
        sqlite3_bind_int64(s, 6, (int64_t)response->digest[0]);
        sqlite3_bind_int64(s, 7, (int64_t)response->digest[1]);
        sqlite3_bind_int64(s, 8, response->finished_ms);
        r = statement_done(s, sqlite3_step(s));
        return r ? r : row_of(store, response, ret_row);
}

int results_put_event(struct store *store, int64_t row, const struct results_event *event) {
        struct sqlite3_stmt *s = store_statement(store, SQL_EVENT_PUT);

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, row);
        sqlite3_bind_int64(s, 2, (int64_t)event->ord);
        sqlite3_bind_int64(s, 3, event->type);
        sqlite3_bind_blob(s, 4, event->record, (int)event->len, SQLITE_STATIC);
        return statement_done(s, sqlite3_step(s));
}

int results_cut(struct store *store, int64_t row, uint64_t last_ord) {
        struct sqlite3_stmt *s = store_statement(store, SQL_EVENT_CUT);

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, row);
        sqlite3_bind_int64(s, 2, (int64_t)last_ord);
        return statement_done(s, sqlite3_step(s));
}

int results_forget_open(struct store *store, uint32_t lane, uint64_t generation) {
        static const enum store_sql steps[] = {
                        SQL_RESULT_OPEN, SQL_RESULT_FORGET_EVENTS, SQL_RESULT_FORGET};

        for (int i = 0; i < 3; i++) {
                struct sqlite3_stmt *s = store_statement(store, steps[i]);
                int code;

                if (!s)
                        return STORE_E_FAILED;
                sqlite3_bind_int64(s, 1, lane);
                sqlite3_bind_int64(s, 2, (int64_t)generation);
                code = sqlite3_step(s);
                sqlite3_reset(s);
                if (steps[i] == SQL_RESULT_OPEN && code == SQLITE_DONE)
                        return 0; /* nothing: then it is not written to either */
                if (code != SQLITE_DONE && code != SQLITE_ROW)
                        return STORE_E_FAILED;
        }
        return 0;
}

/* ---- finding ---- */

int results_find(struct store *store, struct results_text tenant, struct results_text id,
                struct results_response *ret, int64_t *ret_row) {
        struct sqlite3_stmt *s = store_statement(store, SQL_RESULT_FIND);
        int code;

        if (!s)
                return STORE_E_FAILED;
        statement_bind(s, 1, tenant);
        statement_bind(s, 2, id);
        code = sqlite3_step(s);
        if (code == SQLITE_ROW) {
                *ret_row = sqlite3_column_int64(s, 0);
                *ret = (struct results_response){.req_id = (uint64_t)sqlite3_column_int64(s, 1),
                                .lane = (uint32_t)sqlite3_column_int64(s, 2),
                                .outcome = (uint64_t)sqlite3_column_int64(s, 3),
                                .digest = {(uint64_t)sqlite3_column_int64(s, 4),
                                                (uint64_t)sqlite3_column_int64(s, 5)},
                                .finished_ms = sqlite3_column_int64(s, 6)};
        }
        sqlite3_reset(s);
        return code == SQLITE_ROW ? 0 : code == SQLITE_DONE ? STORE_E_NONE : STORE_E_FAILED;
}

int results_size(struct store *store, int64_t row, uint64_t *ret_n, uint64_t *ret_bytes) {
        struct sqlite3_stmt *s = store_statement(store, SQL_RESULT_SIZE);
        int code;

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, row);
        code = sqlite3_step(s);
        if (code == SQLITE_ROW) {
                *ret_n = (uint64_t)sqlite3_column_int64(s, 0);
                *ret_bytes = (uint64_t)sqlite3_column_int64(s, 1);
        }
        sqlite3_reset(s);
        return code == SQLITE_ROW ? 0 : STORE_E_FAILED;
}

int results_events(struct store *store, int64_t row,
                int (*each)(void *ctx, const struct results_event *event), void *ctx) {
        struct sqlite3_stmt *s = store_statement(store, SQL_EVENTS);
        int code = SQLITE_DONE, r = 0;

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, row);
        while (r == 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                struct results_event event = {.ord = (uint64_t)sqlite3_column_int64(s, 0),
                                .type = (uint32_t)sqlite3_column_int64(s, 1),
                                .record = sqlite3_column_blob(s, 2),
                                .len = (uint32_t)sqlite3_column_bytes(s, 2)};

                r = each(ctx, &event);
        }
        code = statement_done(s, code);
        return r ? r : code;
}

int results_ids(struct store *store,
                void (*each)(void *ctx, struct results_text tenant, struct results_text id), void *ctx) {
        struct sqlite3_stmt *s = store_statement(store, SQL_RESULT_IDS);
        int code;

        if (!s)
                return STORE_E_FAILED;
        while ((code = sqlite3_step(s)) == SQLITE_ROW) {
                struct results_text text[2];

                for (int i = 0; i < 2; i++) {
                        text[i].p = (const char *)sqlite3_column_text(s, i);
                        text[i].n = (uint32_t)sqlite3_column_bytes(s, i);
                }
                if (text[0].p && text[1].p)
                        each(ctx, text[0], text[1]);
        }
        return statement_done(s, code);
}

/* ---- forgetting ---- */

int results_expire(struct store *store, int64_t before_ms, uint32_t most, uint32_t *ret_n) {
        static const enum store_sql steps[] = {SQL_RESULT_EXPIRE_EVENTS, SQL_RESULT_EXPIRE};

        for (int i = 0; i < 2; i++) {
                struct sqlite3_stmt *s = store_statement(store, steps[i]);
                int r;

                if (!s)
                        return STORE_E_FAILED;
                sqlite3_bind_int64(s, 1, before_ms);
                sqlite3_bind_int64(s, 2, most);
                r = statement_done(s, sqlite3_step(s));
                if (r)
                        return r;
        }
        *ret_n = (uint32_t)sqlite3_changes(store->db);
        return 0;
}
