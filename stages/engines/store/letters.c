#include "stages/engines/store/letters.h"

#include "stages/engines/store/statement.h"

/* Nothing is a blob too. */
static void bind_blob(struct sqlite3_stmt *s, int at, const void *bytes, uint32_t n) {
        sqlite3_bind_blob(s, at, n ? bytes : "", (int)n, SQLITE_STATIC);
}

int letters_put(struct store *store, const struct letter *letter, uint64_t most) {
        struct sqlite3_stmt *s = store_statement(store, SQL_LETTER_PUT);
        int r;

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, (int64_t)letter->req_id);
        statement_bind(s, 2, letter->tenant);
        statement_bind(s, 3, letter->id);
        sqlite3_bind_int64(s, 4, letter->lane);
        statement_bind(s, 5, letter->stage);
        sqlite3_bind_int64(s, 6, letter->strikes);
        sqlite3_bind_int64(s, 7, letter->signal);
        sqlite3_bind_int64(s, 8, letter->died_ms);
        bind_blob(s, 9, letter->record, letter->record_len);
        bind_blob(s, 10, letter->body, letter->body_len);
        r = statement_done(s, sqlite3_step(s));
        s = r ? NULL : store_statement(store, SQL_LETTER_TRIM);
        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, (int64_t)most);
        return statement_done(s, sqlite3_step(s));
}

static struct letter row_of(struct sqlite3_stmt *s) {
        struct letter letter = {.n = sqlite3_column_int64(s, 0),
                        .req_id = (uint64_t)sqlite3_column_int64(s, 1),
                        .tenant = statement_text(s, 2),
                        .id = statement_text(s, 3),
                        .lane = (uint32_t)sqlite3_column_int64(s, 4),
                        .stage = statement_text(s, 5),
                        .strikes = (uint32_t)sqlite3_column_int64(s, 6),
                        .signal = (uint32_t)sqlite3_column_int64(s, 7),
                        .died_ms = sqlite3_column_int64(s, 8)};

        letter.record = sqlite3_column_blob(s, 9);
        letter.record_len = (uint32_t)sqlite3_column_bytes(s, 9);
        letter.body_len = (uint32_t)sqlite3_column_int64(s, 10);
        letter.body = sqlite3_column_blob(s, 11);
        return letter;
}

int letters_each(struct store *store, int (*each)(void *ctx, const struct letter *letter), void *ctx) {
        struct sqlite3_stmt *s = store_statement(store, SQL_LETTERS);
        int code = SQLITE_DONE, r = 0;

        if (!s)
                return STORE_E_FAILED;
        while (r == 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                struct letter letter = row_of(s);
                r = each(ctx, &letter);
        }
        code = statement_done(s, code);
        return r ? r : code;
}

int letters_find(struct store *store, struct results_text id,
                int (*found)(void *ctx, const struct letter *letter), void *ctx) {
        struct sqlite3_stmt *s = store_statement(store, SQL_LETTER_FIND);
        int code, r;

        if (!s)
                return STORE_E_FAILED;
        statement_bind(s, 1, id);
        code = sqlite3_step(s);
        r = code == SQLITE_DONE ? STORE_E_NONE : STORE_E_FAILED;
        if (code == SQLITE_ROW) {
                struct letter letter = row_of(s);
                r = found(ctx, &letter);
        }
        sqlite3_reset(s);
        return r;
}

int letters_drop(struct store *store, int64_t n) {
        struct sqlite3_stmt *s = store_statement(store, SQL_LETTER_DROP);
        int r;

        if (!s)
                return STORE_E_FAILED;
        sqlite3_bind_int64(s, 1, n);
        r = statement_done(s, sqlite3_step(s));
        if (r)
                return r;
        return sqlite3_changes(store->db) ? 0 : STORE_E_NONE;
}
