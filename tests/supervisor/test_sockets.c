/* Where the daemon is reached: paths and listeners, refusals first. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor/sockets.h"

static char folder[64], path[SOCKETS_PATH_MAX + 1];
static struct listener listener;
static struct report report;

static void set_up(void) {
        snprintf(folder, sizeof(folder), "/tmp/test-sockets-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/s", folder);
        unsetenv("MILLRACE_SOCKET");
        unsetenv("XDG_RUNTIME_DIR");
        listener = (struct listener){.fd = -1};
        report.line[0] = '\0';
}

static void tear_down(void) {
        char command[200];

        listener_close(&listener);
        snprintf(command, sizeof(command), "%s/s", folder);
        unlink(command);
        snprintf(command, sizeof(command), "%s/millrace/millrace.sock", folder);
        unlink(command);
        snprintf(command, sizeof(command), "%s/millrace", folder);
        if (rmdir(command) == -1)
                unlink(command);
        ck_assert_int_eq(rmdir(folder), 0);
}

static void expect_line(const char *text) {
        ck_assert_msg(strstr(report.line, text), "\"%s\" does not say \"%s\"", report.line, text);
}

/* ---- refusals -------------------------------------------------------------------------------- */

START_TEST(a_path_that_is_too_long_is_refused_with_the_limit) {
        char longer[200], got[SOCKETS_PATH_MAX + 1];

        memset(longer, 'a', sizeof(longer));
        longer[0] = '/';
        longer[104] = '\0';
        ck_assert_int_eq(sockets_client_path(longer, got, &report), SOCKETS_E_USER);
        expect_line("107");
        expect_line("104 bytes");
        longer[103] = '\0';
        ck_assert_int_eq(sockets_client_path(longer, got, &report), 0);
        ck_assert_int_eq(sockets_control_path(got, path, &report), 0);
        ck_assert_uint_eq(strlen(path), 107);
}
END_TEST

START_TEST(a_default_folder_that_is_open_to_others_is_refused) {
        char own[100], got[SOCKETS_PATH_MAX + 1];

        setenv("XDG_RUNTIME_DIR", folder, 1);
        snprintf(own, sizeof(own), "%s/millrace", folder);
        ck_assert_int_eq(mkdir(own, 0700), 0);
        ck_assert_int_eq(chmod(own, 0750), 0);
        ck_assert_int_eq(sockets_client_path(NULL, got, &report), SOCKETS_E_USER);
        expect_line("0750");
}
END_TEST

START_TEST(a_default_folder_of_somebody_else_is_refused) {
        char own[100], got[SOCKETS_PATH_MAX + 1];

        if (geteuid() != 0)
                return; /* only root can make one */
        setenv("XDG_RUNTIME_DIR", folder, 1);
        snprintf(own, sizeof(own), "%s/millrace", folder);
        ck_assert_int_eq(mkdir(own, 0700), 0);
        ck_assert_int_eq(chown(own, 12345, 12345), 0);
        ck_assert_int_eq(sockets_client_path(NULL, got, &report), SOCKETS_E_USER);
        expect_line("12345");
}
END_TEST

START_TEST(a_default_folder_that_is_a_link_is_refused) {
        char own[100], got[SOCKETS_PATH_MAX + 1];

        setenv("XDG_RUNTIME_DIR", folder, 1);
        snprintf(own, sizeof(own), "%s/millrace", folder);
        ck_assert_int_eq(symlink("/tmp", own), 0);
        ck_assert_int_eq(sockets_client_path(NULL, got, &report), SOCKETS_E_USER);
        expect_line("no folder");
}
END_TEST

START_TEST(a_socket_that_somebody_listens_on_is_taken) {
        struct listener second = {.fd = -1};

        ck_assert_int_eq(listener_unix(path, 0600, &listener, &report), 0);
        ck_assert_int_eq(listener_unix(path, 0600, &second, &report), SOCKETS_E_USER);
        expect_line("taken");
        expect_line(path);
        ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_file_in_the_way_is_not_removed) {
        FILE *file = fopen(path, "w");

        ck_assert_ptr_nonnull(file);
        fclose(file);
        ck_assert_int_eq(listener_unix(path, 0600, &listener, &report), SOCKETS_E_USER);
        expect_line("in the way");
        ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_named) {
        char missing[100];

        snprintf(missing, sizeof(missing), "%s/no/s", folder);
        ck_assert_int_eq(listener_unix(missing, 0600, &listener, &report), SOCKETS_E_USER);
        expect_line(missing);
}
END_TEST

START_TEST(a_port_that_is_taken_is_named) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        socklen_t len = sizeof(address);
        struct listener second = {.fd = -1};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        char where[64];

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        ck_assert_int_eq(listen(fd, 1), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
        snprintf(where, sizeof(where), "127.0.0.1:%u", ntohs(address.sin_port));
        ck_assert_int_eq(
                        listener_open(where, 0600, "telemetry.listen", "`none`", &second, &report),
                        SOCKETS_E_USER);
        expect_line(where);
        expect_line("telemetry.listen");
        expect_line("another process has it: name a free port, or `none`)");
        close(fd);
}
END_TEST

START_TEST(a_path_that_is_taken_is_named_with_its_setting) {
        struct listener second = {.fd = -1};
        char where[SOCKETS_NAME_MAX + 1];

        snprintf(where, sizeof(where), "unix:%s", path);
        ck_assert_int_eq(listener_open(where, 0666, "http.listen.1", "", &listener, &report), 0);
        ck_assert_int_eq(listener_open(where, 0666, "http.listen.1", "", &second, &report),
                        SOCKETS_E_USER);
        expect_line("http.listen.1: ");
        expect_line("taken");
        expect_line(path);
}
END_TEST

START_TEST(what_is_no_address_is_refused) {
        static const char *const wrong[] = {"nonsense", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:00", ":1"};

        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
                ck_assert_int_eq(listener_open(wrong[i], 0600, "x", "", &listener, &report), SOCKETS_E_USER);
}
END_TEST

/* ---- behaviour ------------------------------------------------------------------------------- */

START_TEST(the_setting_comes_before_the_environment_and_that_before_the_default) {
        char got[SOCKETS_PATH_MAX + 1], wanted[200];

        setenv("XDG_RUNTIME_DIR", folder, 1);
        setenv("MILLRACE_SOCKET", "/tmp/named", 1);
        ck_assert_int_eq(sockets_client_path("/tmp/set", got, &report), 0);
        ck_assert_str_eq(got, "/tmp/set");
        ck_assert_int_eq(sockets_client_path(NULL, got, &report), 0);
        ck_assert_str_eq(got, "/tmp/named");
        unsetenv("MILLRACE_SOCKET");
        ck_assert_int_eq(sockets_client_path(NULL, got, &report), 0);
        snprintf(wanted, sizeof(wanted), "%s/millrace/millrace.sock", folder);
        ck_assert_str_eq(got, wanted);
}
END_TEST

START_TEST(a_default_folder_is_made_for_this_user_alone) {
        char got[SOCKETS_PATH_MAX + 1], own[100];
        struct stat st;

        setenv("XDG_RUNTIME_DIR", folder, 1);
        ck_assert_int_eq(sockets_client_path(NULL, got, &report), 0);
        snprintf(own, sizeof(own), "%s/millrace", folder);
        ck_assert_int_eq(stat(own, &st), 0);
        ck_assert_uint_eq(st.st_mode & 07777, 0700);
}
END_TEST

START_TEST(a_socket_has_the_mode_asked_for_and_goes_with_the_listener) {
        struct stat st;

        ck_assert_int_eq(listener_unix(path, 0600, &listener, &report), 0);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
        listener_close(&listener);
        ck_assert_int_eq(listener_unix(path, 0666, &listener, &report), 0);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0666);
        listener_close(&listener);
        ck_assert_int_eq(stat(path, &st), -1);
}
END_TEST

START_TEST(a_socket_that_nobody_listens_on_is_replaced) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        memcpy(address.sun_path, path, strlen(path) + 1);
        ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        close(fd);
        ck_assert_int_eq(listener_unix(path, 0600, &listener, &report), 0);
}
END_TEST

START_TEST(a_socket_that_another_has_put_there_is_left_alone) {
        struct listener other = {.fd = -1};

        ck_assert_int_eq(listener_unix(path, 0600, &listener, &report), 0);
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(listener_unix(path, 0600, &other, &report), 0);
        listener_close(&listener);
        ck_assert_int_eq(access(path, F_OK), 0);
        listener_close(&other);
}
END_TEST

static int option(int fd, int level, int name) {
        socklen_t len = sizeof(int);
        int value = -1;

        ck_assert_int_eq(getsockopt(fd, level, name, &value, &len), 0);
        return value;
}

START_TEST(a_port_that_the_kernel_chose_is_said) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        socklen_t len = sizeof(address);
        char name[64];
        int fd;

        ck_assert_int_eq(listener_open("127.0.0.1:0", 0600, "x", "", &listener, &report), 0);
        ck_assert_int_eq(getsockname(listener.fd, (struct sockaddr *)&address, &len), 0);
        snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(address.sin_port));
        ck_assert_str_eq(listener.name, name);
        ck_assert_uint_ne(address.sin_port, 0);
        /* What it accepts is fit for any client, without a call more for each. */
        listener_harden(&listener);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        int taken = accept(listener.fd, NULL, NULL);
        ck_assert_int_ne(taken, -1);
        ck_assert_int_eq(option(taken, IPPROTO_TCP, TCP_NODELAY), 1);
        ck_assert_int_gt(option(taken, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 0);
        ck_assert_int_gt(option(taken, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
        ck_assert_int_eq(option(taken, SOL_SOCKET, SO_KEEPALIVE), 1);
        close(taken);
        close(fd);
}
END_TEST

START_TEST(ipv4_and_ipv6_can_have_one_port_side_by_side) {
        struct listener other = {.fd = -1};
        char where[64];

        if (listener_open("[::1]:0", 0600, "x", "", &other, &report))
                return; /* a machine without IPv6 */
        listener_close(&other);
        ck_assert_int_eq(listener_open("0.0.0.0:0", 0600, "x", "", &listener, &report), 0);
        snprintf(where, sizeof(where), "[::]:%s", strrchr(listener.name, ':') + 1);
        ck_assert_int_eq(listener_open(where, 0600, "x", "", &other, &report), 0);
        ck_assert_str_eq(other.name, where);
        listener_close(&other);
}
END_TEST

START_TEST(a_poke_wakes_who_waits_at_a_port_or_a_path) {
        char where[SOCKETS_NAME_MAX + 1];
        int fd;

        ck_assert_int_eq(listener_open("127.0.0.1:0", 0600, "x", "", &listener, &report), 0);
        listener_poke(&listener);
        fd = accept(listener.fd, NULL, NULL);
        ck_assert_int_ne(fd, -1);
        close(fd);
        listener_close(&listener);
        snprintf(where, sizeof(where), "unix:%s", path);
        ck_assert_int_eq(listener_open(where, 0600, "x", "", &listener, &report), 0);
        ck_assert_str_eq(listener.name, where);
        listener_poke(&listener);
        fd = accept(listener.fd, NULL, NULL);
        ck_assert_int_ne(fd, -1);
        close(fd);
        listener_close(&listener);
        listener_poke(&listener);
}
END_TEST

START_TEST(a_peer_of_the_same_user_is_ours) {
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        ck_assert(sockets_peer_is_ours(pair[0]));
        close(pair[0]);
        close(pair[1]);
        ck_assert(!sockets_peer_is_ours(-1));
}
END_TEST

int main(void) {
        Suite *suite = suite_create("sockets");
        TCase *tc = tcase_create("sockets");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, a_path_that_is_too_long_is_refused_with_the_limit);
        tcase_add_test(tc, a_default_folder_that_is_open_to_others_is_refused);
        tcase_add_test(tc, a_default_folder_of_somebody_else_is_refused);
        tcase_add_test(tc, a_default_folder_that_is_a_link_is_refused);
        tcase_add_test(tc, a_socket_that_somebody_listens_on_is_taken);
        tcase_add_test(tc, a_file_in_the_way_is_not_removed);
        tcase_add_test(tc, a_folder_that_is_not_there_is_named);
        tcase_add_test(tc, a_port_that_is_taken_is_named);
        tcase_add_test(tc, a_path_that_is_taken_is_named_with_its_setting);
        tcase_add_test(tc, what_is_no_address_is_refused);
        tcase_add_test(tc, the_setting_comes_before_the_environment_and_that_before_the_default);
        tcase_add_test(tc, a_default_folder_is_made_for_this_user_alone);
        tcase_add_test(tc, a_socket_has_the_mode_asked_for_and_goes_with_the_listener);
        tcase_add_test(tc, a_socket_that_nobody_listens_on_is_replaced);
        tcase_add_test(tc, a_socket_that_another_has_put_there_is_left_alone);
        tcase_add_test(tc, a_port_that_the_kernel_chose_is_said);
        tcase_add_test(tc, ipv4_and_ipv6_can_have_one_port_side_by_side);
        tcase_add_test(tc, a_poke_wakes_who_waits_at_a_port_or_a_path);
        tcase_add_test(tc, a_peer_of_the_same_user_is_ours);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
