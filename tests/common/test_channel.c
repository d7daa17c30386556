#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stages/common/channel.h"

static int ours, theirs;
static uint8_t buf[CHANNEL_BYTES];
static struct channel_head head;
static uint32_t len;
static int fd;

static void setup(void) {
        int pair[2];
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        ours = pair[0];
        theirs = pair[1];
        fd = -1;
        len = 0;
}

static void teardown(void) {
        close(ours);
        if (theirs >= 0)
                close(theirs);
}

static int receive(uint32_t cap) {
        return channel_recv(theirs, 0, &head, buf, cap, &len, &fd);
}

START_TEST(a_packet_without_a_head_is_refused) {
        ck_assert_int_eq(send(ours, "abc", 3, 0), 3);
        ck_assert_int_eq(receive(sizeof(buf)), -EPROTO);
}
END_TEST

START_TEST(a_packet_larger_than_the_buffer_is_refused) {
        ck_assert_int_eq(channel_send(ours, CHANNEL_SETTINGS, 0, "abcdefgh", 8, -1), 0);
        ck_assert_int_eq(receive(7), -EPROTO);
}
END_TEST

START_TEST(a_packet_over_the_limit_is_not_sent) {
        static uint8_t big[CHANNEL_BYTES];
        ck_assert_int_eq(channel_send(ours, CHANNEL_SETTINGS, 0, big, sizeof(big), -1), -EMSGSIZE);
        ck_assert_int_eq(channel_send(ours, CHANNEL_SETTINGS, 0, big, sizeof(big) - 8, -1), 0);
        ck_assert_int_eq(receive(sizeof(buf)), 0);
        ck_assert_uint_eq(len, sizeof(big) - 8);
}
END_TEST

static int n_descriptors(void) {
        int n = 0;
        for (int i = 0; i < 256; i++)
                n += fcntl(i, F_GETFD) != -1;
        return n;
}

START_TEST(two_descriptors_are_refused_and_closed) {
        union {
                char bytes[CMSG_SPACE(2 * sizeof(int))];
                struct cmsghdr align;
        } control = {0};
        struct channel_head bell = {.type = CHANNEL_BELL};
        struct iovec part = {&bell, sizeof(bell)};
        struct msghdr msg = {.msg_iov = &part,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof(control.bytes)};
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        const int two[2] = {ours, theirs};

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(two));
        memcpy(CMSG_DATA(c), two, sizeof(two));
        int before = n_descriptors();
        ck_assert_int_eq(sendmsg(ours, &msg, 0), sizeof(bell));
        ck_assert_int_eq(receive(sizeof(buf)), -EPROTO);
        ck_assert_int_eq(fd, -1);
        ck_assert_int_eq(n_descriptors(), before);
}
END_TEST

START_TEST(a_descriptor_of_a_refused_packet_is_closed) {
        int before = n_descriptors();
        ck_assert_int_eq(channel_send(ours, CHANNEL_BELL, 0, "abcdefgh", 8, ours), 0);
        ck_assert_int_eq(receive(4), -EPROTO);
        ck_assert_int_eq(n_descriptors(), before);
}
END_TEST

START_TEST(nothing_there_and_nobody_there_are_told_apart) {
        ck_assert_int_eq(receive(sizeof(buf)), CHANNEL_E_AGAIN);
        close(ours);
        ck_assert_int_eq(receive(sizeof(buf)), CHANNEL_E_EOF);
        ck_assert_int_eq(channel_send(theirs, CHANNEL_READY, 0, NULL, 0, -1), CHANNEL_E_EOF);
        ours = -1;
}
END_TEST

START_TEST(last_words_are_heard_from_a_peer_that_left_messages_unread) {
        ck_assert_int_eq(channel_send(theirs, CHANNEL_START, 0, NULL, 0, -1), 0);
        ck_assert_int_eq(channel_send(ours, CHANNEL_FAILED, 0, "why", 3, -1), 0);
        close(ours);
        ours = -1;
        ck_assert_int_eq(receive(sizeof(buf)), 0);
        ck_assert_uint_eq(head.type, CHANNEL_FAILED);
        ck_assert_mem_eq(buf, "why", 3);
        ck_assert_int_eq(receive(sizeof(buf)), CHANNEL_E_EOF);
}
END_TEST

START_TEST(a_peer_that_does_not_read_does_not_block_the_sender) {
        int r = 0, n = 0;
        while (r == 0 && n < 1000000) {
                r = channel_send(ours, CHANNEL_DRAIN, 0, buf, 4096, -1);
                n++;
        }
        ck_assert_int_eq(r, CHANNEL_E_AGAIN);
}
END_TEST

START_TEST(messages_keep_type_flags_bytes_and_order) {
        ck_assert_int_eq(channel_send(ours, CHANNEL_SETTINGS, 1, "abc", 3, -1), 0);
        ck_assert_int_eq(channel_send(ours, CHANNEL_START, 0, NULL, 0, -1), 0);
        ck_assert_int_eq(receive(sizeof(buf)), 0);
        ck_assert_uint_eq(head.type, CHANNEL_SETTINGS);
        ck_assert_uint_eq(head.flags, 1);
        ck_assert_uint_eq(len, 3);
        ck_assert_mem_eq(buf, "abc", 3);
        ck_assert_int_eq(fd, -1);
        ck_assert_int_eq(receive(sizeof(buf)), 0);
        ck_assert_uint_eq(head.type, CHANNEL_START);
        ck_assert_uint_eq(len, 0);
}
END_TEST

START_TEST(a_descriptor_arrives_alive_and_is_closed_on_exec) {
        uint64_t value = 0;
        int event = eventfd(7, EFD_CLOEXEC);

        ck_assert_int_eq(channel_send(ours, CHANNEL_BELL, 0, NULL, 0, event), 0);
        close(event);
        ck_assert_int_eq(channel_recv(theirs, 1, &head, buf, sizeof(buf), &len, &fd), 0);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
        ck_assert_int_eq(read(fd, &value, sizeof(value)), sizeof(value));
        ck_assert_uint_eq(value, 7);
        close(fd);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("channel");
        TCase *tcase = tcase_create("channel");
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, a_packet_without_a_head_is_refused);
        tcase_add_test(tcase, a_packet_larger_than_the_buffer_is_refused);
        tcase_add_test(tcase, a_packet_over_the_limit_is_not_sent);
        tcase_add_test(tcase, two_descriptors_are_refused_and_closed);
        tcase_add_test(tcase, a_descriptor_of_a_refused_packet_is_closed);
        tcase_add_test(tcase, nothing_there_and_nobody_there_are_told_apart);
        tcase_add_test(tcase, last_words_are_heard_from_a_peer_that_left_messages_unread);
        tcase_add_test(tcase, a_peer_that_does_not_read_does_not_block_the_sender);
        tcase_add_test(tcase, messages_keep_type_flags_bytes_and_order);
        tcase_add_test(tcase, a_descriptor_arrives_alive_and_is_closed_on_exec);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
