/*
 * lock -- the instance lock: whoever holds it knows that no other writer of the instance is alive.
 */
#include "supervisor/lock.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/segment.h"
#include "stages/common/clock.h"
#include "supervisor/control_ask.h"

#define LOCK_LOOK_MS 50u
#define LOCK_ASK_MS 1000u
#define HOLDERS_MAX 8u

static void sleep_ms(uint32_t ms) {
        struct timespec t = {.tv_nsec = (long)ms * 1000000};

        nanosleep(&t, NULL);
}

/* ---- holders --------------------------------------------------------------------------------- */

static bool process_has_open(const char *pid, const struct stat *lock) {
        char path[300];
        struct dirent *entry;
        struct stat st;
        bool found = false;
        DIR *dir;

        snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
        dir = opendir(path);
        while (dir && !found && (entry = readdir(dir)) != NULL)
                if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
                        found = st.st_dev == lock->st_dev && st.st_ino == lock->st_ino;
        if (dir)
                closedir(dir);
        return found;
}

/* Workers are not dumpable, and their descriptors then cannot be looked at; but the supervisor
 * gives them their instance as part of their first argument: "millrace-rag: main". */
static bool process_says_instance(const char *pid, const char *instance, char *ret, size_t n) {
        char path[300], mark[160];
        const char *at;
        ssize_t len;
        int fd;

        snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd == -1)
                return false;
        len = read(fd, ret, n - 1);
        close(fd);
        ret[len > 0 ? len : 0] = '\0';
        snprintf(mark, sizeof(mark), ": %s", instance);
        at = strncmp(ret, "millrace-", 9) == 0 ? strstr(ret, mark) : NULL;
        return at && (at[strlen(mark)] == '\0' || at[strlen(mark)] == ' ');
}

/* "pid 12 (millrace-rag: main lane 0), pid 13 (...)"; empty when none can be seen. */
static void name_holders(const struct lock *lock, const char *instance, char *buf, size_t n) {
        struct dirent *entry;
        struct stat st;
        uint32_t found = 0;
        size_t len = 0;
        DIR *dir = opendir("/proc");

        buf[0] = '\0';
        while (dir && fstat(lock->fd, &st) == 0 && found < HOLDERS_MAX && len < n &&
                        (entry = readdir(dir)) != NULL) {
                char name[128] = "";
                bool ours;

                if (!isdigit((unsigned char)entry->d_name[0]) || atoll(entry->d_name) == getpid())
                        continue;
                ours = process_says_instance(entry->d_name, instance, name, sizeof(name));
                if (!ours && !process_has_open(entry->d_name, &st))
                        continue;
                len += (size_t)snprintf(buf + len, n - len, "%spid %.20s%s%.80s%s",
                                found ? ", " : "", entry->d_name, name[0] ? " (" : "", name,
                                name[0] ? ")" : "");
                found++;
        }
        if (dir)
                closedir(dir);
}

/* The control socket that the holder has written down, "" when it has not. */
static void read_sign(const struct lock *lock, char *ret_control, size_t n) {
        char line[160];
        ssize_t len = pread(lock->fd, line, sizeof(line) - 1, 0);
        const char *space;

        ret_control[0] = '\0';
        if (len <= 0)
                return;
        line[len] = '\0';
        line[strcspn(line, "\n")] = '\0';
        space = strchr(line, ' ');
        if (space)
                snprintf(ret_control, n, "%s", space + 1);
}

void lock_sign(const struct lock *lock, const char *control_path) {
        char line[160];
        int len = snprintf(line, sizeof(line), "%ld %s\n", (long)getpid(), control_path);

        /* Only words for an error message: when they cannot be written, it says less. */
        if (ftruncate(lock->fd, 0) == 0 && pwrite(lock->fd, line, (size_t)len, 0) != len)
                (void)ftruncate(lock->fd, 0);
}

/* True when a supervisor answered and goes on running; its pid and socket stand in the report. */
static bool holder_answers(const struct lock *lock, const char *instance, struct report *report) {
        struct control_pong pong;
        char control[128];

        read_sign(lock, control, sizeof(control));
        if (!control[0] || control_ask_ping(control, LOCK_ASK_MS, &pong))
                return false;
        if (strcmp(pong.instance, instance) != 0 || strcmp(pong.state, "draining") == 0)
                return false;
        report_set(report, "instance \"%s\" runs already: pid %lld, socket %s", instance,
                        (long long)pong.pid, pong.socket);
        return true;
}

/* ---- taking ---------------------------------------------------------------------------------- */

bool lock_is_named(const struct lock *lock) {
        struct stat path, fd;

        return fstat(lock->fd, &fd) == 0 && lstat(lock->path, &path) == 0 &&
               path.st_dev == fd.st_dev && path.st_ino == fd.st_ino;
}

/* 0: held, and the path still names what is held. LOCK_E_HELD; -EAGAIN: the file was replaced. */
static int try_lock(struct lock *lock) {
        if (flock(lock->fd, LOCK_EX | LOCK_NB) == -1)
                return errno == EWOULDBLOCK ? LOCK_E_HELD : -errno;
        return lock_is_named(lock) ? 0 : -EAGAIN;
}

static int open_lock(struct lock *lock, struct report *report) {
        struct stat st;

        lock->fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock->fd == -1) {
                report_set(report, "cannot open the instance lock %s: %s", lock->path,
                                strerror(errno));
                return -errno;
        }
        if (fstat(lock->fd, &st) == -1 || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
                report_set(report, "the instance lock %s is no file of this user", lock->path);
                close(lock->fd);
                return -EACCES;
        }
        return 0;
}

static int held(const struct lock *lock, const char *instance, struct report *report) {
        char holders[900];

        name_holders(lock, instance, holders, sizeof(holders));
        report_set(report,
                        "instance \"%s\" is held by processes that do not end: %s; end them, or "
                        "choose "
                        "another `instance`",
                        instance, holders[0] ? holders : "none that can be seen");
        return LOCK_E_HELD;
}

int lock_take(const char *instance, uint32_t wait_ms, struct lock *ret, struct report *report) {
        struct lock lock = {.fd = -1};
        uint64_t until = clock_now_ns() + wait_ms * NS_PER_MS;
        char name[SEGMENT_NAME_MAX];
        int r;

        r = segment_name(name, instance, "lock");
        if (r) {
                report_set(report,
                                "instance: \"%s\" can hold letters, digits, - and _ only, and up "
                                "to 63 of them",
                                instance);
                return r;
        }
        snprintf(lock.path, sizeof(lock.path), "/dev/shm%s", name);
        for (;;) {
                r = open_lock(&lock, report);
                if (r)
                        return r;
                r = try_lock(&lock);
                if (r == 0)
                        break;
                if (r == LOCK_E_HELD && holder_answers(&lock, instance, report)) {
                        close(lock.fd);
                        return LOCK_E_HELD;
                }
                if (r == LOCK_E_HELD && clock_now_ns() >= until)
                        r = held(&lock, instance, report);
                else if (r == LOCK_E_HELD || r == -EAGAIN)
                        r = 0;
                else
                        report_set(report, "cannot lock %s: %s", lock.path, strerror(-r));
                close(lock.fd);
                if (r)
                        return r;
                sleep_ms(LOCK_LOOK_MS);
        }
        *ret = lock;
        return 0;
}

void lock_drop(struct lock *lock) {
        if (lock->fd == -1)
                return;
        unlink(lock->path);
        close(lock->fd);
        lock->fd = -1;
}
