#include "shm/doorbell.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int doorbell_new(int *ret_fd) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        if (fd == -1)
                return -errno;
        *ret_fd = fd;
        return 0;
}

void doorbell_ring(int fd) {
        const uint64_t one = 1;

        /* EAGAIN: the counter is saturated, so the sleeper is signalled already. EBADF (-1: a ring
         * that nobody sleeps on) is no concern of the one who rings. */
        while (write(fd, &one, sizeof(one)) == -1 && errno == EINTR)
                continue;
}

void doorbell_owe(struct doorbells *owed, int fd) {
        for (uint32_t i = 0; owed && i < owed->n; i++)
                if (owed->fds[i] == fd)
                        return;
        if (owed && owed->n < PROCS_MAX)
                owed->fds[owed->n++] = fd;
        else
                doorbell_ring(fd);
}

void doorbell_clear(int fd) {
        uint64_t n;

        while (read(fd, &n, sizeof(n)) == -1 && errno == EINTR)
                continue;
}
