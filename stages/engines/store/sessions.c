#include "stages/engines/store/sessions.h"

#include "stages/engines/store/statement.h"

/* A statement whose only values are two numbers, or the first of them. */
static int run(struct store *store, enum store_sql which, int64_t first, int64_t second) {
        struct sqlite3_stmt *s = store_statement(store, which);

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, first);
        sqlite3_bind_int64(s, 2, second);
        return statement_done(s, sqlite3_step(s));
}

/* ---- storing ---- */

static int make(struct store *store, struct results_text tenant, struct results_text name,
                int64_t now_ms) {
        struct sqlite3_stmt *s = store_statement(store, SQL_SESSION_MAKE);

        if (!s)
                return STORE_E_FAILED;
        statement_bind(s, 1, tenant);
        statement_bind(s, 2, name);
        sqlite3_bind_int64(s, 3, now_ms);
        return statement_done(s, sqlite3_step(s));
}

/* *ret_new: it was not there before. */
static int exchange_put(struct store *store, const struct sessions_session *session,
                const struct sessions_exchange *e, bool *ret_new) {
        struct sqlite3_stmt *s = store_statement(store, SQL_EXCHANGE_PUT);
        int r;

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, session->n);
        sqlite3_bind_int64(s, 2, (int64_t)e->turn);
        sqlite3_bind_int64(s, 3, (int64_t)e->at);
        sqlite3_bind_int64(s, 4, (int64_t)e->req_id);
        statement_bind(s, 5, e->id);
        sqlite3_bind_int64(s, 6, e->when_ms);
        statement_bind(s, 7, e->asked);
        statement_bind(s, 8, e->answer);
        r = statement_done(s, sqlite3_step(s));
        *ret_new = r == 0 && sqlite3_changes(store->db) > 0;
        return r;
}

static int session_moved(struct store *store, const struct sessions_session *session,
                const struct sessions_exchange *e) {
        struct sqlite3_stmt *s = store_statement(store, SQL_SESSION_MOVED);

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, session->n);
        sqlite3_bind_int64(s, 2, (int64_t)e->turn);
        sqlite3_bind_int64(s, 3, (int64_t)(e->at + e->asked.n + e->answer.n));
        sqlite3_bind_int64(s, 4, e->when_ms);
        return statement_done(s, sqlite3_step(s));
}

int sessions_put(struct store *store, struct results_text tenant, struct results_text name,
                const struct sessions_exchange *exchange, uint64_t keep, int64_t fresh_ms) {
        struct sessions_exchange e = *exchange;
        struct sessions_session session;
        bool is_new = false;
        int r = sessions_find(store, tenant, name, INT64_MIN, &session);

        if (r == 0 && session.last_ms < fresh_ms) {
                r = sessions_drop(store, session.n);
                if (r == 0)
                        r = STORE_E_NONE;
        }
        if (r == STORE_E_NONE) {
                r = make(store, tenant, name, e.when_ms);
                if (r == 0)
                        r = sessions_find(store, tenant, name, INT64_MIN, &session);
        }
        if (r)
                return STORE_E_FAILED;
        e.turn = session.turns + (e.continues && session.turns ? 0 : 1);
        e.at = session.bytes;
        r = exchange_put(store, &session, &e, &is_new);
        if (r || !is_new)
                return r;
        r = session_moved(store, &session, &e);
        if (r == 0 && e.turn > keep)
                r = run(store, SQL_EXCHANGE_TRIM, session.n, (int64_t)(e.turn - keep));
        return r;
}

/* ---- finding ---- */

int sessions_find(struct store *store, struct results_text tenant, struct results_text name,
                int64_t fresh_ms, struct sessions_session *ret) {
        struct sqlite3_stmt *s = store_statement(store, SQL_SESSION_FIND);
        int code;

        if (!s)
                return STORE_E_FAILED;
        statement_bind(s, 1, tenant);
        statement_bind(s, 2, name);
        sqlite3_bind_int64(s, 3, fresh_ms);
        code = sqlite3_step(s);
        if (code == SQLITE_ROW)
                *ret = (struct sessions_session){.n = sqlite3_column_int64(s, 0),
                                .turns = (uint64_t)sqlite3_column_int64(s, 1),
                                .bytes = (uint64_t)sqlite3_column_int64(s, 2),
                                .began_ms = sqlite3_column_int64(s, 3),
                                .last_ms = sqlite3_column_int64(s, 4)};
        sqlite3_reset(s);
        return code == SQLITE_ROW ? 0 : code == SQLITE_DONE ? STORE_E_NONE : STORE_E_FAILED;
}

int sessions_exchanges(struct store *store, int64_t session, uint64_t after_turn,
                int (*each)(void *ctx, const struct sessions_exchange *exchange), void *ctx) {
        struct sqlite3_stmt *s = store_statement(store, SQL_EXCHANGES);
        int code = SQLITE_DONE, r = 0;

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, session);
        sqlite3_bind_int64(s, 2, (int64_t)after_turn);
        while (r == 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                struct sessions_exchange e = {.turn = (uint64_t)sqlite3_column_int64(s, 0),
                                .at = (uint64_t)sqlite3_column_int64(s, 1),
                                .req_id = (uint64_t)sqlite3_column_int64(s, 2),
                                .id = statement_text(s, 3),
                                .when_ms = sqlite3_column_int64(s, 4),
                                .asked = statement_text(s, 5),
                                .answer = statement_text(s, 6)};

                r = each(ctx, &e);
        }
        code = statement_done(s, code);
        return r ? r : code;
}

int sessions_each(struct store *store,
                int (*each)(void *ctx, const struct sessions_session *session), void *ctx) {
        struct sqlite3_stmt *s = store_statement(store, SQL_SESSIONS);
        int code = SQLITE_DONE, r = 0;

        if (!s)
                return STORE_E_FAILED;
        while (r == 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                struct sessions_session session = {.n = sqlite3_column_int64(s, 0),
                                .tenant = statement_text(s, 1),
                                .name = statement_text(s, 2),
                                .turns = (uint64_t)sqlite3_column_int64(s, 3),
                                .bytes = (uint64_t)sqlite3_column_int64(s, 4),
                                .began_ms = sqlite3_column_int64(s, 5),
                                .last_ms = sqlite3_column_int64(s, 6),
                                .kept = (uint64_t)sqlite3_column_int64(s, 7)};

                r = each(ctx, &session);
        }
        code = statement_done(s, code);
        return r ? r : code;
}

/* ---- forgetting ---- */

int sessions_drop(struct store *store, int64_t session) {
        int r = run(store, SQL_EXCHANGE_TRIM, session, INT64_MAX);

        return r ? r : run(store, SQL_SESSION_DROP, session, 0);
}

int sessions_expire(struct store *store, int64_t before_ms, uint32_t most, uint32_t *ret_n) {
        int r = run(store, SQL_SESSION_EXPIRE_EXCHANGES, before_ms, most);

        if (r == 0)
                r = run(store, SQL_SESSION_EXPIRE, before_ms, most);
        if (r == 0)
                *ret_n = (uint32_t)sqlite3_changes(store->db);
        return r;
}
