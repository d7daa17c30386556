/*
 * dies -- kills a process before its n-th call that changes a file, from in front of libc.
 *
 * Shape   preloaded (LD_PRELOAD) into a command; MILLRACE_DIES is n, from 1
 * Units   calls of the process and its libraries
 * Owner   test_index_kill.py
 * Errors  none
 * Limits  sees what goes through these names, which are those of 64-bit offsets too (the build says so);
 *         not what libc calls within itself
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static long left = -1; /* not known yet */

static void one_more(void) {
        const char *n = getenv("MILLRACE_DIES");

        if (left == -1)
                left = n ? atol(n) : 0;
        if (left > 0 && --left == 0)
                kill(getpid(), SIGKILL);
}

#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

#define STAND_BEFORE(type, name, parameters, ...)                                                  \
        EXPORT type name parameters {                                                              \
                one_more();                                                                        \
                return REAL(name)(__VA_ARGS__);                                                    \
        }

STAND_BEFORE(ssize_t, pwrite, (int fd, const void *bytes, size_t n, off_t at), fd, bytes, n, at)
STAND_BEFORE(int, fsync, (int fd), fd)
STAND_BEFORE(int, fdatasync, (int fd), fd)
STAND_BEFORE(int, rename, (const char *from, const char *to), from, to)
STAND_BEFORE(int, unlink, (const char *path), path)
STAND_BEFORE(int, ftruncate, (int fd, off_t n), fd, n)
STAND_BEFORE(int, mkdir, (const char *path, mode_t mode), path, mode)

/* What is printed is no file's change. */
EXPORT ssize_t write(int fd, const void *bytes, size_t n) {
        if (fd > STDERR_FILENO)
                one_more();
        return REAL(write)(fd, bytes, n);
}

static mode_t mode_of(int flags, va_list args) {
        return flags & O_CREAT ? va_arg(args, mode_t) : 0;
}

EXPORT int open(const char *path, int flags, ...) {
        va_list args;

        va_start(args, flags);
        const mode_t mode = mode_of(flags, args);
        va_end(args);
        if (flags & O_CREAT)
                one_more();
        return REAL(open)(path, flags, mode);
}
