/*
 * copies -- counts the bytes that a process copies, from in front of libc.
 *
 * Shape   preloaded (LD_PRELOAD) into a worker; the file that MILLRACE_COPIES names holds one word, the sum
 * Units   bytes in calls of memcpy, memmove, mempcpy and their checking kin
 * Owner   the process whose library it is; test_copies.py reads
 * Errors  a file that cannot be mapped ends the process
 * Limits  sees the process's own calls and those of its libraries; not what libc copies within itself, what
 *         a compiler has made of a copy of known size, what a loop copies byte by byte, what the kernel does
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static _Atomic uint64_t early; /* before the file is there */
static _Atomic uint64_t *sum = &early;

/* What nobody takes for a copy, and makes a call of memcpy of it. */
#define AS_IT_STANDS() __asm__ volatile("" ::: "memory")

static void *copy(void *to, const void *from, size_t n) {
        unsigned char *t = to;
        const unsigned char *f = from;

        atomic_fetch_add_explicit(sum, n, memory_order_relaxed);
        if (t <= f || t >= f + n) {
                for (size_t i = 0; i < n; i++) {
                        t[i] = f[i];
                        AS_IT_STANDS();
                }
        } else {
                for (size_t i = n; i > 0; i--) {
                        t[i - 1] = f[i - 1];
                        AS_IT_STANDS();
                }
        }
        return to;
}

EXPORT void *memcpy(void *restrict to, const void *restrict from, size_t n) {
        return copy(to, from, n);
}

EXPORT void *memmove(void *to, const void *from, size_t n) {
        return copy(to, from, n);
}

EXPORT void *mempcpy(void *restrict to, const void *restrict from, size_t n) {
        return (char *)copy(to, from, n) + n;
}

#define CHECKED(name, plain)                                                                       \
        EXPORT void *name(void *to, const void *from, size_t n, size_t room);                      \
        EXPORT void *name(void *to, const void *from, size_t n, size_t room) {                     \
                if (n > room)                                                                      \
                        abort();                                                                   \
                return plain(to, from, n);                                                         \
        }
CHECKED(__memcpy_chk, memcpy)
CHECKED(__memmove_chk, memmove)
CHECKED(__mempcpy_chk, mempcpy)

__attribute__((constructor)) static void count_in_file(void) {
        const char *path = getenv("MILLRACE_COPIES");
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *map;

        if (!path)
                return; /* a shell that starts the worker */
        map = fd == -1 ? MAP_FAILED
                       : mmap(NULL, sizeof(*sum), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                abort();
        close(fd);
        sum = map;
}
