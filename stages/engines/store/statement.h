/*
 * statement -- what the tables of the store share: values of statements as texts, and their end.
 *
 * Shape   inline functions over SQLite's own statements; nobody outside of this folder includes them
 * Owner   a text that is bound must live until the statement has run; one that is read, until its next step
 * Errors  0, STORE_E_FAILED
 */
#pragma once

#include <sqlite3.h>

#include "stages/engines/store/results.h"

static inline void statement_bind(struct sqlite3_stmt *s, int at, struct results_text text) {
        sqlite3_bind_text(s, at, text.p, (int)text.n, SQLITE_STATIC);
}

/* Empty where the column holds nothing. */
static inline struct results_text statement_text(struct sqlite3_stmt *s, int column) {
        const char *p = (const char *)sqlite3_column_text(s, column);

        return (struct results_text){p ? p : "", p ? (uint32_t)sqlite3_column_bytes(s, column) : 0};
}

/* The end of a statement whose last step gave this code. */
static inline int statement_done(struct sqlite3_stmt *s, int code) {
        sqlite3_reset(s);
        return code == SQLITE_DONE ? 0 : STORE_E_FAILED;
}
