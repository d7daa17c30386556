/*
 * store -- the SQLite file of an instance: made, opened, checked.
 *
 * Shape   one file in WAL mode; struct store is one connection with its prepared statements
 * Units   milliseconds of the wall clock
 * Owner   every stream process has a connection of its own, a command may have one too; SQLite's locks
 *         keep them apart, and the folder is locked (flock) while the file is made or checked
 * Errors  0, STORE_E_*; `why` says what in one line
 * Limits  STORE_BUSY_MS of waiting for another connection's transaction; mode 0600
 *
 * A reader may be let in to read the folder only: SQLite then takes the index of the log as the writer has
 * it, and what is committed is seen by whoever asks next.
 *
 * A file that is broken is never used and never removed: it is renamed aside, with what belongs to it, but
 * by a command. A file of an older version gets what it lacks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_BUSY_MS 5000
#define STORE_WHY_MAX 512u

enum store_error {
        STORE_E_NONE = 1, /* no such file, no such row */
        STORE_E_FAILED,   /* the disk is full, the folder cannot be written, ... */
        STORE_E_BROKEN,   /* it is no database, or a damaged one */
};

enum store_sql {
        SQL_BEGIN,
        SQL_COMMIT,
        SQL_ROLLBACK,
        SQL_PROBE,
        SQL_RESULT_PUT,
        SQL_RESULT_ROW,
        SQL_RESULT_FIND,
        SQL_RESULT_SIZE,
        SQL_RESULT_OPEN,
        SQL_RESULT_FORGET_EVENTS,
        SQL_RESULT_FORGET,
        SQL_RESULT_IDS,
        SQL_RESULT_EXPIRE_EVENTS,
        SQL_RESULT_EXPIRE,
        SQL_EVENT_PUT,
        SQL_EVENT_CUT,
        SQL_EVENTS,
        SQL_LETTER_PUT,
        SQL_LETTER_TRIM,
        SQL_LETTERS,
        SQL_LETTER_FIND,
        SQL_LETTER_DROP,
        SQL_SESSION_MAKE,
        SQL_SESSION_FIND,
        SQL_SESSION_MOVED,
        SQL_SESSION_DROP,
        SQL_SESSION_EXPIRE,
        SQL_SESSION_EXPIRE_EXCHANGES,
        SQL_SESSIONS,
        SQL_EXCHANGE_PUT,
        SQL_EXCHANGE_TRIM,
        SQL_EXCHANGES,
        STORE_SQL_N,
};

struct sqlite3;
struct sqlite3_stmt;

struct store {
        struct sqlite3 *db;
        struct sqlite3_stmt *statement[STORE_SQL_N];
};

struct store_options {
        const char *path;
        bool create;     /* a file that is not there is made */
        bool leave;      /* a broken file stays where it is: STORE_E_FAILED */
        bool read;       /* only that: nothing is made, checked or changed; STORE_E_NONE too while its
                          * tables are not those of this version */
        bool full;       /* each commit survives the loss of power */
        uint64_t checked; /* the whole file is checked unless it was for this number; 0: it is not checked */
};

/* The folder that the file lies in, and those above it. 0 or -errno. */
int store_folder_make(const char *path);
/* aside: the name that a broken file has now, "" when there was none. */
int store_open(const struct store_options *options, struct store *ret, char aside[static STORE_WHY_MAX],
        char why[static STORE_WHY_MAX]);
void store_close(struct store *store);

/* A statement without its old values, ready to be bound. NULL: it cannot be prepared. */
struct sqlite3_stmt *store_statement(struct store *store, enum store_sql which);
/* Runs one that gives no rows. */
int store_run(struct store *store, enum store_sql which);
/* Ends a transaction that has failed; STORE_E_FAILED: the connection is of no use any more. */
int store_rollback(struct store *store);
/* What the last failure on this connection was. */
const char *store_why(const struct store *store);
