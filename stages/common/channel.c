#include "stages/common/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for more descriptors than a message may carry, so that a surplus is seen and closed here
 * instead of being cut off by the kernel. */
#define FDS_SEEN 4

union control {
        char bytes[CMSG_SPACE(FDS_SEEN * sizeof(int))];
        struct cmsghdr align;
};

int channel_send(int channel, enum channel_type type, uint32_t flags, const void *bytes,
                uint32_t len, int fd) {
        struct channel_head head = {.type = (uint32_t)type, .flags = flags};
        struct iovec parts[2] = {
                        {.iov_base = &head, .iov_len = sizeof(head)},
                        {.iov_base = (void *)bytes, .iov_len = len},
        };
        union control control = {0};
        struct msghdr msg = {.msg_iov = parts, .msg_iovlen = len > 0 ? 2 : 1};

        if (len > CHANNEL_BYTES - sizeof(head))
                return -EMSGSIZE;
        if (fd >= 0) {
                msg.msg_control = control.bytes;
                msg.msg_controllen = CMSG_SPACE(sizeof(int));
                struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &fd, sizeof(int));
        }
        for (;;) {
                if (sendmsg(channel, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
                        return 0;
                if (errno == EINTR)
                        continue;
                if (errno == EAGAIN || errno == ENOBUFS)
                        return CHANNEL_E_AGAIN;
                if (errno == EPIPE || errno == ECONNRESET)
                        return CHANNEL_E_EOF;
                return -errno;
        }
}

/* The descriptors of a message: at most one is wanted; *ret_fd is -1 or owned by the caller.
 * -EPROTO for more (all are closed). */
static int fds_take(struct msghdr *msg, int *ret_fd) {
        int first = -1, n_seen = 0;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;
                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (n_seen++ == 0)
                                first = fd;
                        else
                                close(fd);
                }
        }
        if (n_seen > 1 || (msg->msg_flags & MSG_CTRUNC)) {
                if (first >= 0)
                        close(first);
                return -EPROTO;
        }
        *ret_fd = first;
        return 0;
}

int channel_recv(int channel, int wait, struct channel_head *ret_head, void *buf, uint32_t cap,
                uint32_t *ret_len, int *ret_fd) {
        struct channel_head head;
        struct iovec parts[2] = {
                        {.iov_base = &head, .iov_len = sizeof(head)},
                        {.iov_base = buf, .iov_len = cap},
        };
        union control control;
        struct msghdr msg = {.msg_iov = parts,
                        .msg_iovlen = 2,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof(control.bytes)};
        int fd = -1;
        ssize_t n;

        /* A peer that ends with messages unread resets the connection. That is told once, ahead of
         * what it had said before: its last words are still to be read, then comes the end of file.
         */
        do
                n = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
        while (n == -1 && (errno == EINTR || errno == ECONNRESET));
        if (n == -1)
                return errno == EAGAIN ? CHANNEL_E_AGAIN : -errno;
        int r = fds_take(&msg, &fd);
        if (r < 0)
                return r;
        if (n == 0)
                return CHANNEL_E_EOF; /* no message is empty: each has a head */
        if ((size_t)n < sizeof(head) || (msg.msg_flags & MSG_TRUNC)) {
                if (fd >= 0)
                        close(fd);
                return -EPROTO;
        }
        *ret_head = head;
        *ret_len = (uint32_t)((size_t)n - sizeof(head));
        *ret_fd = fd;
        return 0;
}
