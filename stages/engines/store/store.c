#include "stages/engines/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VERSION 3
#define APPLICATION 0x6d696c6c /* "mill" */
#define TEXT(n) #n
#define NUMBER(n) TEXT(n)

/* What makes a file of each version out of one of the version before. A response, and a dead letter, is
 * named by its request's number, and by tenant and id for the day on which the numbers of the daemon
 * begin anew. */
static const char *const schemas[VERSION] = {
                "CREATE TABLE responses (n INTEGER PRIMARY KEY AUTOINCREMENT, req_id INTEGER NOT NULL,"
                " tenant TEXT NOT NULL, id TEXT NOT NULL, lane INTEGER NOT NULL,"
                " outcome INTEGER NOT NULL, digest_hi INTEGER NOT NULL, digest_lo INTEGER NOT NULL,"
                " finished_ms INTEGER NOT NULL, UNIQUE (req_id, tenant, id));"
                "CREATE INDEX responses_by_id ON responses (tenant, id, n);"
                "CREATE INDEX responses_by_time ON responses (finished_ms);"
                "CREATE TABLE events (response INTEGER NOT NULL, ord INTEGER NOT NULL,"
                " type INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (response, ord))"
                " WITHOUT ROWID;"
                "CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
                "INSERT INTO state VALUES ('checked', 0), ('probe', 0);"
                "PRAGMA application_id = " NUMBER(APPLICATION) ";"
                "PRAGMA user_version = 1;",
                "CREATE TABLE dead_letters (n INTEGER PRIMARY KEY AUTOINCREMENT, req_id INTEGER NOT NULL,"
                " tenant TEXT NOT NULL, id TEXT NOT NULL, lane INTEGER NOT NULL, stage TEXT NOT NULL,"
                " strikes INTEGER NOT NULL, signal INTEGER NOT NULL, died_ms INTEGER NOT NULL,"
                " record BLOB NOT NULL, body BLOB NOT NULL, UNIQUE (req_id, tenant, id));"
                "CREATE INDEX dead_letters_by_id ON dead_letters (id, n);"
                "PRAGMA user_version = 2;",
                "CREATE TABLE sessions (n INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL,"
                " name TEXT NOT NULL, turns INTEGER NOT NULL, bytes INTEGER NOT NULL,"
                " began_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, UNIQUE (tenant, name));"
                "CREATE INDEX sessions_by_time ON sessions (last_ms);"
                "CREATE TABLE exchanges (n INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL,"
                " turn INTEGER NOT NULL, at INTEGER NOT NULL, req_id INTEGER NOT NULL, id TEXT NOT NULL,"
                " when_ms INTEGER NOT NULL, asked TEXT NOT NULL, answer TEXT NOT NULL,"
                " UNIQUE (session, req_id, id));"
                "CREATE INDEX exchanges_by_turn ON exchanges (session, turn, n);"
                "PRAGMA user_version = 3;",
};

/* Begun, and nobody knows of it any more: a request's number says which memory it was of. */
#define OPEN_OF_OTHERS "outcome = 0 AND (lane = ?1 OR (req_id >> 44 & 1048575) <> ?2)"

static const char *const texts[STORE_SQL_N] = {
                [SQL_BEGIN] = "BEGIN IMMEDIATE",
                [SQL_COMMIT] = "COMMIT",
                [SQL_ROLLBACK] = "ROLLBACK",
                [SQL_PROBE] = "UPDATE state SET value = value + 1 WHERE name = 'probe'",
                [SQL_RESULT_PUT] = "INSERT INTO responses (req_id, tenant, id, lane, outcome, digest_hi,"
                                   " digest_lo, finished_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                                   " ON CONFLICT DO UPDATE SET outcome = ?5, finished_ms = ?8"
                                   " WHERE outcome = 0",
                [SQL_RESULT_ROW] = "SELECT n FROM responses WHERE req_id = ?1 AND tenant = ?2"
                                   " AND id = ?3",
                [SQL_RESULT_FIND] = "SELECT n, req_id, lane, outcome, digest_hi, digest_lo, finished_ms"
                                    " FROM responses WHERE tenant = ?1 AND id = ?2 AND outcome <> 0"
                                    " ORDER BY n DESC LIMIT 1",
                [SQL_RESULT_SIZE] = "SELECT count(*), sum(length(record)) FROM events"
                                    " WHERE response = ?1",
                [SQL_RESULT_OPEN] = "SELECT 1 FROM responses WHERE " OPEN_OF_OTHERS " LIMIT 1",
                [SQL_RESULT_FORGET_EVENTS] = "DELETE FROM events WHERE response IN"
                                             " (SELECT n FROM responses WHERE " OPEN_OF_OTHERS ")",
                [SQL_RESULT_FORGET] = "DELETE FROM responses WHERE " OPEN_OF_OTHERS,
                [SQL_RESULT_IDS] = "SELECT tenant, id FROM responses",
                [SQL_RESULT_EXPIRE_EVENTS] = "DELETE FROM events WHERE response IN (SELECT n FROM"
                                             " responses WHERE finished_ms < ?1 AND outcome <> 0"
                                             " ORDER BY finished_ms, n LIMIT ?2)",
                [SQL_RESULT_EXPIRE] = "DELETE FROM responses WHERE n IN (SELECT n FROM responses"
                                      " WHERE finished_ms < ?1 AND outcome <> 0 ORDER BY finished_ms, n LIMIT ?2)",
                [SQL_EVENT_PUT] = "INSERT INTO events VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE"
                                  " SET type = ?3, record = ?4",
                [SQL_EVENT_CUT] = "DELETE FROM events WHERE response = ?1 AND ord > ?2",
                [SQL_EVENTS] = "SELECT ord, type, record FROM events WHERE response = ?1 ORDER BY ord",
                [SQL_LETTER_PUT] = "INSERT INTO dead_letters (req_id, tenant, id, lane, stage, strikes,"
                                   " signal, died_ms, record, body)"
                                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
                                   " ON CONFLICT DO NOTHING",
                [SQL_LETTER_TRIM] = "DELETE FROM dead_letters WHERE n <= (SELECT n FROM dead_letters"
                                    " ORDER BY n DESC LIMIT 1 OFFSET ?1)",
                [SQL_LETTERS] = "SELECT n, req_id, tenant, id, lane, stage, strikes, signal, died_ms,"
                                " record, length(body), NULL FROM dead_letters ORDER BY n",
                [SQL_LETTER_FIND] = "SELECT n, req_id, tenant, id, lane, stage, strikes, signal, died_ms,"
                                    " record, length(body), body FROM dead_letters WHERE id = ?1"
                                    " ORDER BY n DESC LIMIT 1",
                [SQL_LETTER_DROP] = "DELETE FROM dead_letters WHERE n = ?1",
                [SQL_SESSION_MAKE] = "INSERT INTO sessions (tenant, name, turns, bytes, began_ms, last_ms)"
                                     " VALUES (?1, ?2, 0, 0, ?3, ?3)",
                [SQL_SESSION_FIND] = "SELECT n, turns, bytes, began_ms, last_ms FROM sessions"
                                     " WHERE tenant = ?1 AND name = ?2 AND last_ms >= ?3",
                [SQL_SESSION_MOVED] = "UPDATE sessions SET turns = ?2, bytes = ?3, last_ms = ?4"
                                      " WHERE n = ?1",
                [SQL_SESSION_DROP] = "DELETE FROM sessions WHERE n = ?1",
                [SQL_SESSION_EXPIRE] = "DELETE FROM sessions WHERE n IN (SELECT n FROM sessions"
                                       " WHERE last_ms < ?1 ORDER BY last_ms, n LIMIT ?2)",
                [SQL_SESSION_EXPIRE_EXCHANGES] = "DELETE FROM exchanges WHERE session IN (SELECT n FROM"
                                                 " sessions WHERE last_ms < ?1 ORDER BY last_ms, n"
                                                 " LIMIT ?2)",
                [SQL_SESSIONS] = "SELECT n, tenant, name, turns, bytes, began_ms, last_ms,"
                                 " (SELECT count(*) FROM exchanges WHERE session = sessions.n)"
                                 " FROM sessions ORDER BY last_ms, n",
                [SQL_EXCHANGE_PUT] = "INSERT INTO exchanges (session, turn, at, req_id, id, when_ms,"
                                     " asked, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                                     " ON CONFLICT DO NOTHING",
                [SQL_EXCHANGE_TRIM] = "DELETE FROM exchanges WHERE session = ?1 AND turn <= ?2",
                [SQL_EXCHANGES] = "SELECT turn, at, req_id, id, when_ms, asked, answer FROM exchanges"
                                  " WHERE session = ?1 AND turn > ?2 ORDER BY n",
};

/* ---- statements ---- */

struct sqlite3_stmt *store_statement(struct store *store, enum store_sql which) {
        struct sqlite3_stmt **at = &store->statement[which];

        if (*at) {
                sqlite3_reset(*at);
                sqlite3_clear_bindings(*at);
        } else if (sqlite3_prepare_v3(store->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, at,
                                   NULL) != SQLITE_OK) {
                return NULL;
        }
        return *at;
}

int store_run(struct store *store, enum store_sql which) {
        struct sqlite3_stmt *s = store_statement(store, which);
        int r;

        if (!s)
                return STORE_E_FAILED;
        r = sqlite3_step(s);
        sqlite3_reset(s);
        return r == SQLITE_DONE || r == SQLITE_ROW ? 0 : STORE_E_FAILED;
}

int store_rollback(struct store *store) {
        if (!sqlite3_get_autocommit(store->db)) /* SQLite may have done it by itself */
                (void)store_run(store, SQL_ROLLBACK);
        return sqlite3_get_autocommit(store->db) ? 0 : STORE_E_FAILED;
}

const char *store_why(const struct store *store) {
        return store->db ? sqlite3_errmsg(store->db) : "it is not open";
}

void store_close(struct store *store) {
        for (int i = 0; i < STORE_SQL_N; i++)
                sqlite3_finalize(store->statement[i]);
        sqlite3_close_v2(store->db);
        *store = (struct store){.db = NULL};
}

/* ---- the file ---- */

/* The folder that it lies in; "." where the path has none. */
static void folder_of(const char *path, char to[static PATH_MAX]) {
        const char *slash = strrchr(path, '/');

        snprintf(to, PATH_MAX, "%.*s", slash && slash != path ? (int)(slash - path) : 1,
                        slash ? path : ".");
}

int store_folder_make(const char *path) {
        char name[PATH_MAX];
        size_t n;

        if (strlen(path) + 1 >= PATH_MAX)
                return -ENAMETOOLONG;
        folder_of(path, name);
        n = strlen(name);
        for (size_t i = 1; i <= n; i++) {
                if (name[i] != '/' && name[i] != '\0')
                        continue;
                name[i] = '\0';
                if (mkdir(name, 0700) == -1 && errno != EEXIST)
                        return -errno;
                if (i < n)
                        name[i] = '/';
        }
        return 0;
}

/* Who makes or checks the file does it alone. The lock goes with its descriptor. */
static int folder_lock(const char *path) {
        char folder[PATH_MAX];
        int fd;

        if (strlen(path) + 1 >= PATH_MAX)
                return -ENAMETOOLONG;
        folder_of(path, folder);
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd == -1)
                return -errno;
        if (flock(fd, LOCK_EX) == -1) {
                int error = errno;
                close(fd);
                return -error;
        }
        return fd;
}

static bool is_there(const char *path) {
        return access(path, F_OK) == 0 || errno != ENOENT;
}

/* SQLite would make it readable for others. */
static int file_make(const char *path) {
        int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

        if (fd == -1)
                return -errno;
        close(fd);
        return 0;
}

/* Renames it with its log and index. */
static int move_aside(const char *path, char aside[static STORE_WHY_MAX]) {
        static const char *const parts[] = {"", "-wal", "-shm"};
        char from[PATH_MAX + 8], to[STORE_WHY_MAX + 8];
        int n = snprintf(aside, STORE_WHY_MAX, "%s.broken-%lld", path, (long long)time(NULL));

        if (n < 0 || n >= (int)STORE_WHY_MAX) {
                aside[0] = '\0';
                return -ENAMETOOLONG;
        }
        for (int i = 2; i >= 0; i--) {
                snprintf(from, sizeof(from), "%s%s", path, parts[i]);
                snprintf(to, sizeof(to), "%s%s", aside, parts[i]);
                if (rename(from, to) == -1 && (i == 0 || errno != ENOENT)) {
                        aside[0] = '\0';
                        return -errno;
                }
        }
        return 0;
}

/* ---- what is in it ---- */

/* The first column of the first row; -1: none. */
static int64_t ask(struct store *store, const char *sql, int *ret) {
        struct sqlite3_stmt *s = NULL;
        int64_t value = -1;

        *ret = sqlite3_prepare_v2(store->db, sql, -1, &s, NULL);
        if (*ret == SQLITE_OK)
                *ret = sqlite3_step(s);
        if (*ret == SQLITE_ROW)
                value = sqlite3_column_int64(s, 0);
        if (*ret == SQLITE_ROW || *ret == SQLITE_DONE)
                *ret = SQLITE_OK;
        sqlite3_finalize(s);
        return value;
}

static bool is_damage(int code) {
        return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
}

static int failed(struct store *store, int code, char why[static STORE_WHY_MAX]) {
        snprintf(why, STORE_WHY_MAX, "%s", store_why(store));
        return is_damage(code) ? STORE_E_BROKEN : STORE_E_FAILED;
}

static int run_text(struct store *store, const char *sql, char why[static STORE_WHY_MAX]) {
        int r = sqlite3_exec(store->db, sql, NULL, NULL, NULL);

        return r == SQLITE_OK ? 0 : failed(store, r, why);
}

static int tables_make(struct store *store, int64_t version, char why[static STORE_WHY_MAX]) {
        int r = run_text(store, "BEGIN IMMEDIATE", why);

        for (; r == 0 && version < VERSION; version++)
                r = run_text(store, schemas[version], why);
        if (r == 0)
                r = run_text(store, "COMMIT", why);
        return r;
}

static int empty_check(struct store *store, char why[static STORE_WHY_MAX]) {
        int code;
        int64_t tables = ask(store, "SELECT count(*) FROM sqlite_schema", &code);

        if (code != SQLITE_OK)
                return failed(store, code, why);
        if (tables == 0)
                return 0;
        snprintf(why, STORE_WHY_MAX, "it is a database of another program");
        return STORE_E_FAILED;
}

/* Its tables are those of this version; an empty file gets them, an older one gets what it lacks. */
static int tables_check(struct store *store, char why[static STORE_WHY_MAX]) {
        int code, code_2;
        int64_t version = ask(store, "PRAGMA user_version", &code);
        int64_t application = ask(store, "PRAGMA application_id", &code_2);

        if (code != SQLITE_OK || code_2 != SQLITE_OK)
                return failed(store, code != SQLITE_OK ? code : code_2, why);
        if (version == 0) {
                int r = empty_check(store, why);
                return r ? r : tables_make(store, 0, why);
        }
        if (application == APPLICATION && version > 0 && version <= VERSION)
                return version == VERSION ? 0 : tables_make(store, version, why);
        if (application != APPLICATION)
                snprintf(why, STORE_WHY_MAX, "it is a database of another program");
        else
                snprintf(why, STORE_WHY_MAX, "its format is %lld, this version knows %d",
                                (long long)version, VERSION);
        return STORE_E_FAILED;
}

static int whole_check(struct store *store, uint64_t number, char why[static STORE_WHY_MAX]) {
        struct sqlite3_stmt *s = NULL;
        char sql[96];
        int code, r = 0;

        if ((uint64_t)ask(store, "SELECT value FROM state WHERE name = 'checked'", &code) == number &&
                        code == SQLITE_OK)
                return 0;
        code = sqlite3_prepare_v2(store->db, "PRAGMA integrity_check(1)", -1, &s, NULL);
        if (code == SQLITE_OK)
                code = sqlite3_step(s);
        if (code != SQLITE_ROW) {
                r = failed(store, code, why);
        } else if (strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0) {
                snprintf(why, STORE_WHY_MAX, "%.400s", (const char *)sqlite3_column_text(s, 0));
                r = STORE_E_BROKEN;
        }
        sqlite3_finalize(s);
        if (r)
                return r;
        snprintf(sql, sizeof(sql), "UPDATE state SET value = %lld WHERE name = 'checked'",
                        (long long)number);
        return run_text(store, sql, why);
}

static int open_once(const struct store_options *o, struct store *ret, char why[static STORE_WHY_MAX]) {
        int r = sqlite3_open_v2(o->path, &ret->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

        if (r != SQLITE_OK)
                return failed(ret, r, why);
        sqlite3_extended_result_codes(ret->db, 1);
        sqlite3_busy_timeout(ret->db, STORE_BUSY_MS);
        r = run_text(ret, "PRAGMA journal_mode = WAL", why);
        if (r == 0)
                r = run_text(ret, o->full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
                                why);
        if (r == 0)
                r = tables_check(ret, why);
        return r == 0 && o->checked ? whole_check(ret, o->checked, why) : r;
}

static int open_locked(const struct store_options *o, struct store *ret,
                char aside[static STORE_WHY_MAX], char why[static STORE_WHY_MAX]) {
        int r = o->create ? file_make(o->path) : 0;

        if (!o->create && !is_there(o->path)) /* somebody has put it aside meanwhile */
                return STORE_E_NONE;
        if (r == 0)
                r = open_once(o, ret, why);
        else
                snprintf(why, STORE_WHY_MAX, "%s", strerror(-r));
        if (r == 0)
                return 0;
        store_close(ret);
        if (r != STORE_E_BROKEN || o->leave)
                return STORE_E_FAILED;
        r = move_aside(o->path, aside);
        if (r < 0) {
                snprintf(why, STORE_WHY_MAX, "it is broken and cannot be renamed: %s", strerror(-r));
                return STORE_E_BROKEN;
        }
        if (!o->create)
                return STORE_E_NONE;
        r = file_make(o->path);
        if (r == 0)
                r = open_once(o, ret, why);
        if (r)
                store_close(ret);
        return r ? STORE_E_FAILED : 0;
}

/* Whoever writes the file has made and checked it. */
static int open_to_read(const struct store_options *o, struct store *ret, char why[static STORE_WHY_MAX]) {
        int r = sqlite3_open_v2(o->path, &ret->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
        int code;
        int64_t version;

        if (r != SQLITE_OK) {
                (void)failed(ret, r, why);
                return STORE_E_FAILED;
        }
        sqlite3_busy_timeout(ret->db, STORE_BUSY_MS);
        version = ask(ret, "PRAGMA user_version", &code);
        if (code != SQLITE_OK)
                (void)failed(ret, code, why);
        return code != SQLITE_OK ? STORE_E_FAILED : version == VERSION ? 0 : STORE_E_NONE;
}

int store_open(const struct store_options *options, struct store *ret, char aside[static STORE_WHY_MAX],
                char why[static STORE_WHY_MAX]) {
        struct store store = {.db = NULL};
        int lock, r;

        aside[0] = why[0] = '\0';
        if (!options->create && !is_there(options->path))
                return STORE_E_NONE;
        if (options->read) {
                r = open_to_read(options, &store, why);
                if (r)
                        store_close(&store);
                else
                        *ret = store;
                return r;
        }
        lock = folder_lock(options->path);
        if (lock < 0) {
                snprintf(why, STORE_WHY_MAX, "%s", strerror(-lock));
                return STORE_E_FAILED;
        }
        r = open_locked(options, &store, aside, why);
        close(lock);
        if (r == 0)
                *ret = store;
        return r;
}
