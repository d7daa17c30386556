/* Each role, from the inside: what it must not, by system call and by operation of io_uring, and what
 * it needs. docs/security.md says nothing that is not tried here. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "shm/segment.h"
#include "stages/common/landlock.h"
#include "stages/common/loop.c" /* its ring, to ask it for what it does not offer */
#include "stages/common/sandbox.h"
#include "stages/common/sandbox_table.h"
#include "stages/common/worker.h"

#define BIT(role) (1u << (role))
#define ALL_ROLES ((1u << ROLES_N) - 1)
#define PAGE 4096

/* ---- the scene: files, ports and memory that exist before the sandbox ---- */

static struct {
        char dir[64], secret[96], index[96], indexed[128], folder[96], database[128], wal[132];
        char watched[96], document[128], fresh[128];
        struct settings *settings;
        int backend, elsewhere; /* listeners */
        uint16_t backend_port, elsewhere_port;
        int unbound;  /* a TCP socket that somebody left open */
        void *theirs; /* a page that another process writes */
        int bell;     /* an eventfd */
        int watches;  /* an inotify descriptor */
        int said;     /* what a child reports goes here */
        int landlock; /* the kernel's version; inside a sandbox it cannot be asked */
} scene;

static void file_make(const char *path) {
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, "x", 1), 1);
        close(fd);
}

static int listener(uint16_t *ret_port) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
        ck_assert_int_eq(listen(fd, 64), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
        *ret_port = ntohs(address.sin_port);
        return fd;
}

static void backend_set(const char *url) {
        struct settings_worker *worker = &scene.settings->inference.workers.v[0];

        free(worker->base_url);
        worker->base_url = url ? strdup(url) : NULL;
}

static void text_set(char **text, const char *value) {
        free(*text);
        *text = strdup(value);
}

static void watch_set(const char *folder) {
        struct settings_strs *watch = &scene.settings->rag.watch;

        watch->v = calloc(1, sizeof(*watch->v));
        watch->v[0] = strdup(folder);
        watch->n = 1;
}

static void page_make(void) {
        char name[SEGMENT_NAME_MAX], instance[32];
        struct segment_fds fds;

        snprintf(instance, sizeof(instance), "sandbox-%d", (int)getpid());
        ck_assert_int_eq(segment_name(name, instance, "page"), 0);
        ck_assert_int_eq(segment_create(name, PAGE, &fds), 0);
        ck_assert_int_eq(segment_unlink(name), 0);
        ck_assert_int_eq(segment_map(fds.ro, PAGE, false, &scene.theirs), 0);
        segment_close(&fds);
}

static void setup(void) {
        char url[64];

        strcpy(scene.dir, "/tmp/millrace-sandbox-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(scene.dir));
        snprintf(scene.secret, sizeof(scene.secret), "%s/secret", scene.dir);
        snprintf(scene.index, sizeof(scene.index), "%s/main.index", scene.dir);
        snprintf(scene.indexed, sizeof(scene.indexed), "%s/iamglass", scene.index);
        snprintf(scene.folder, sizeof(scene.folder), "%s/state", scene.dir);
        snprintf(scene.database, sizeof(scene.database), "%s/main.db", scene.folder);
        snprintf(scene.wal, sizeof(scene.wal), "%s-wal", scene.database);
        snprintf(scene.fresh, sizeof(scene.fresh), "%s/fresh", scene.index);
        snprintf(scene.watched, sizeof(scene.watched), "%s/watched", scene.dir);
        snprintf(scene.document, sizeof(scene.document), "%s/a.md", scene.watched);
        ck_assert_int_eq(mkdir(scene.index, 0700), 0);
        ck_assert_int_eq(mkdir(scene.watched, 0700), 0);
        ck_assert_int_eq(mkdir(scene.folder, 0700), 0);
        file_make(scene.secret);
        file_make(scene.indexed);
        file_make(scene.document);
        scene.watches = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        ck_assert_int_ge(scene.watches, 0);
        ck_assert_int_eq(doorbell_new(&scene.bell), 0);
        scene.landlock = landlock_version();
        scene.backend = listener(&scene.backend_port);
        scene.elsewhere = listener(&scene.elsewhere_port);
        scene.unbound = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        page_make();
        ck_assert_int_eq(settings_default(&scene.settings), 0);
        text_set(&scene.settings->rag.index, scene.index);
        text_set(&scene.settings->stream.database, scene.database);
        scene.settings->sessions.history_turns = 1;
        watch_set(scene.watched);
        snprintf(url, sizeof(url), "http://localhost:%u/v1", scene.backend_port);
        backend_set(url);
}

static void teardown(void) {
        unlink(scene.wal);
        unlink(scene.database);
        unlink(scene.indexed);
        unlink(scene.fresh);
        unlink(scene.document);
        rmdir(scene.watched);
        unlink(scene.secret);
        rmdir(scene.folder);
        rmdir(scene.index);
        rmdir(scene.dir);
        close(scene.backend);
        close(scene.elsewhere);
        close(scene.unbound);
        close(scene.bell);
        close(scene.watches);
        segment_unmap(scene.theirs, PAGE);
        scene.settings = settings_free(scene.settings);
}

/* ---- a worker of a role, as far as the sandbox looks at it ---- */

static struct worker self;
static struct stage_ops self_ops;

__attribute__((format(printf, 1, 2))) static void report(const char *format, ...) {
        char line[256];
        va_list args;

        va_start(args, format);
        int n = vsnprintf(line, sizeof(line), format, args);
        va_end(args);
        if (write(scene.said, line, (size_t)n) != n)
                _exit(97);
}

static int enter(enum mr_role role) {
        self_ops = (struct stage_ops){.name = mr_role_name(role), .role = role};
        self = (struct worker){.ops = &self_ops, .settings = scene.settings};
        if (loop_new(&self.loop, 16) != 0)
                _exit(98);
        return sandbox_enter(&self);
}

/* Runs fn in a process of its own, inside the role's sandbox; what it reports fails the test. */
static int run(enum mr_role role, bool sandboxed, void (*fn)(enum mr_role role)) {
        char said[4096];
        size_t len = 0;
        int pipes[2], status = 0;

        ck_assert_int_eq(pipe(pipes), 0);
        pid_t pid = fork();
        if (pid == 0) {
                scene.said = pipes[1];
                int r = sandboxed ? enter(role) : 0;
                if (r != 0)
                        report("sandbox_enter: %d\n", r);
                else
                        fn(role);
                _exit(0);
        }
        close(pipes[1]);
        for (ssize_t n; len < sizeof(said) - 1 &&
                        (n = read(pipes[0], said + len, sizeof(said) - 1 - len)) > 0;)
                len += (size_t)n;
        said[len] = '\0';
        close(pipes[0]);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(len == 0, "%s:\n%s", mr_role_name(role), said);
        return status;
}

static void run_all(void (*fn)(enum mr_role role)) {
        for (uint32_t role = 0; role < ROLES_N; role++) {
                file_make(scene.database); /* a role before may have removed them */
                file_make(scene.wal);
                int status = run((enum mr_role)role, true, fn);
                ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: status %x",
                                mr_role_name((enum mr_role)role), (unsigned)status);
        }
}

/* ---- what is tried ---- */

static long outcome(long r) {
        return r == -1 ? -errno : r;
}

#define TRY(name, expression)                                                                      \
        static long name(void) {                                                                   \
                return outcome((long)(expression));                                                \
        }

static const struct sockaddr_in *at(uint16_t port) {
        static struct sockaddr_in address;

        address = (struct sockaddr_in){.sin_family = AF_INET,
                        .sin_port = htons(port),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        return &address;
}

TRY(read_a_file, openat(AT_FDCWD, scene.secret, O_RDONLY))
TRY(write_a_file, openat(AT_FDCWD, scene.secret, O_WRONLY))
TRY(list_a_folder, openat(AT_FDCWD, scene.dir, O_RDONLY | O_DIRECTORY))
TRY(read_own_memory, openat(AT_FDCWD, "/proc/self/mem", O_RDONLY))
TRY(reopen_a_descriptor, openat(AT_FDCWD, "/proc/self/fd/0", O_RDWR))
TRY(list_shared_memory, openat(AT_FDCWD, "/dev/shm", O_RDONLY | O_DIRECTORY))
TRY(make_shared_memory, openat(AT_FDCWD, "/dev/shm/millrace-sandbox", O_RDWR | O_CREAT, 0600))
TRY(read_the_index, openat(AT_FDCWD, scene.indexed, O_RDONLY))
TRY(list_the_index, openat(AT_FDCWD, scene.index, O_RDONLY | O_DIRECTORY))
TRY(write_the_index, openat(AT_FDCWD, scene.indexed, O_WRONLY))
TRY(make_a_file_in_the_index, openat(AT_FDCWD, scene.fresh, O_RDWR | O_CREAT, 0600))
TRY(read_a_watched_file, openat(AT_FDCWD, scene.document, O_RDONLY))
TRY(write_a_watched_file, openat(AT_FDCWD, scene.document, O_WRONLY))
TRY(remove_a_watched_file, unlink(scene.document))
TRY(watch_a_folder, inotify_add_watch(scene.watches, scene.watched, IN_CREATE))
TRY(watch_with_another_descriptor, inotify_init1(0))
TRY(read_etc, openat(AT_FDCWD, "/etc/passwd", O_RDONLY))
TRY(write_etc, openat(AT_FDCWD, "/etc/passwd", O_RDWR))
TRY(make_the_database, openat(AT_FDCWD, scene.database, O_RDWR | O_CREAT, 0600))
TRY(list_its_folder, openat(AT_FDCWD, scene.folder, O_RDONLY | O_DIRECTORY))
TRY(make_its_log, openat(AT_FDCWD, scene.wal, O_RDWR | O_CREAT, 0600))
TRY(put_it_aside, rename(scene.database, scene.wal))
TRY(remove_its_log, unlink(scene.wal))
TRY(make_a_folder, mkdirat(AT_FDCWD, scene.folder, 0700))
TRY(rename_a_file, rename(scene.secret, scene.indexed))
TRY(link_a_file, symlink("/etc/passwd", scene.wal))
TRY(change_a_mode, chmod(scene.secret, 0666))
static long see_that_a_file_exists(void) {
        struct stat st;
        return outcome(stat(scene.secret, &st));
}

TRY(tcp_socket, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))
TRY(tcp6_socket, socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP))
TRY(udp_socket, socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_UDP))
TRY(unix_socket, socket(AF_UNIX, SOCK_STREAM, 0))
TRY(raw_socket, socket(AF_INET, SOCK_RAW, IPPROTO_ICMP))
TRY(mptcp_socket, socket(AF_INET, SOCK_STREAM, 262))
TRY(netlink_socket, socket(AF_NETLINK, SOCK_RAW, 0))
TRY(packet_socket, socket(AF_PACKET, SOCK_RAW, 0))
TRY(bind_a_socket, bind(scene.unbound, (const struct sockaddr *)at(0), sizeof(*at(0))))
TRY(listen_on_a_socket, listen(scene.unbound, 1))
TRY(accept_by_call, accept4(scene.backend, NULL, NULL, SOCK_NONBLOCK))
/* No connection is there, and none is waited for: it is the descriptor that is wrong. */
TRY(accept_as_a_server_may, accept4(-1, NULL, NULL, SOCK_CLOEXEC) == -1 && errno == EBADF ? 0 : -1)
TRY(accept_without_flags, syscall(SYS_accept, scene.backend, NULL, NULL))

static long connect_to(uint16_t port) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd == -1) /* with one that is there */
                return outcome(connect(scene.unbound, (const struct sockaddr *)at(port),
                                sizeof(*at(port))));
        long r = outcome(connect(fd, (const struct sockaddr *)at(port), sizeof(*at(port))));
        close(fd);
        return r;
}
TRY(connect_to_a_backend, (errno = (int)-connect_to(scene.backend_port)) ? -1 : 0)
TRY(connect_elsewhere, (errno = (int)-connect_to(scene.elsewhere_port)) ? -1 : 0)

static long connect_by_sending(void) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return outcome(sendto(fd == -1 ? scene.unbound : fd, "x", 1, MSG_FASTOPEN,
                        (const struct sockaddr *)at(scene.elsewhere_port),
                        sizeof(*at(scene.elsewhere_port))));
}

static long send_a_datagram(void) {
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd == -1)
                return outcome(-1);
        long r = outcome(sendto(fd, "x", 1, 0, (const struct sockaddr *)at(scene.elsewhere_port),
                        sizeof(*at(0))));
        close(fd);
        return r;
}

/* Whoever comes out of it twice must not go on twice. */
static long once(long r) {
        if (r == 0)
                _exit(96);
        return outcome(r);
}
static long fork_a_process(void) {
        return once(syscall(SYS_fork));
}
static long clone_a_process(void) {
        return once(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}
static long clone3_a_process(void) {
        uint64_t args[8] = {0, 0, 0, 0, SIGCHLD};
        return once(syscall(SYS_clone3, args, sizeof(args)));
}
static long clone_into_a_namespace(void) {
        return once(syscall(SYS_clone, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWNET, 0, 0,
                        0, 0));
}
TRY(execute, execve("/bin/true", (char *[]){"true", NULL}, (char *[]){NULL}))

static void *nothing(void *arg) {
        return arg;
}
static long start_a_thread(void) {
        pthread_t thread;
        int r = pthread_create(&thread, NULL, nothing, NULL);
        if (r == 0)
                pthread_join(thread, NULL);
        return -r;
}

TRY(be_traced, ptrace(PTRACE_TRACEME, 0, 0, 0))
TRY(trace_another, ptrace(PTRACE_SEIZE, getppid(), 0, 0))
static long write_into_another(void) {
        char byte = 0;
        struct iovec part = {.iov_base = &byte, .iov_len = 1};
        return outcome(process_vm_writev(getppid(), &part, 1, &part, 1, 0));
}
TRY(signal_another, kill(getppid(), 0))
TRY(signal_everybody, kill(-1, 0))
TRY(signal_a_thread_of_another, syscall(SYS_tgkill, 1, 1, 0))
TRY(signal_by_number, syscall(SYS_tkill, 1, 0))
TRY(hold_another, syscall(SYS_pidfd_open, 1, 0))
TRY(limit_another, prlimit(1, RLIMIT_CORE, NULL, NULL))
TRY(stay_on_another_core, syscall(SYS_sched_setaffinity, 0, 8, "\377\0\0\0\0\0\0"))

TRY(write_a_page_that_is_another_s, mprotect(scene.theirs, PAGE, PROT_READ | PROT_WRITE))
TRY(map_to_write_and_execute, mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
TRY(map_to_execute,
                mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
static long execute_what_was_written(void) {
        void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return outcome(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
}
TRY(memory_with_a_name, syscall(SYS_memfd_create, "m", 0))
TRY(system_v_memory, syscall(SYS_shmget, 0, PAGE, 0600))
TRY(a_ring_of_its_own, syscall(SYS_io_uring_setup, 4, (char[120]){0}))
TRY(be_dumped_again, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
TRY(leave_for_a_namespace, syscall(SYS_unshare, CLONE_NEWUSER))
TRY(be_another_user, syscall(SYS_setuid, 65534))
TRY(change_root, chroot("/"))
TRY(load_bpf, syscall(SYS_bpf, 0, NULL, 0))
TRY(count_events, syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0))

static const struct attempt {
        const char *what;
        long (*act)(void);
        uint32_t roles; /* that may */
        bool by_path;   /* of roles that open files, Landlock alone refuses it */
} attempts[] = {
#define ATTEMPT(name, roles) {#name, name, roles, false}
#define AT_A_PATH(name, roles) {#name, name, roles, true}
                AT_A_PATH(read_a_file, 0),
                AT_A_PATH(write_a_file, 0),
                AT_A_PATH(list_a_folder, 0),
                AT_A_PATH(read_own_memory, 0),
                AT_A_PATH(reopen_a_descriptor, 0),
                AT_A_PATH(list_shared_memory, 0),
                AT_A_PATH(make_shared_memory, 0),
                AT_A_PATH(read_the_index, BIT(ROLE_RAG) | BIT(ROLE_WATCH)),
                AT_A_PATH(list_the_index, BIT(ROLE_RAG) | BIT(ROLE_WATCH)),
                AT_A_PATH(write_the_index, BIT(ROLE_WATCH)),
                AT_A_PATH(make_a_file_in_the_index, BIT(ROLE_WATCH)),
                AT_A_PATH(read_a_watched_file, BIT(ROLE_WATCH)),
                AT_A_PATH(write_a_watched_file, 0),
                AT_A_PATH(remove_a_watched_file, 0),
                ATTEMPT(watch_a_folder, BIT(ROLE_WATCH)),
                ATTEMPT(watch_with_another_descriptor, 0),
                AT_A_PATH(read_etc, BIT(ROLE_INFERENCE)),
                AT_A_PATH(write_etc, 0),
                AT_A_PATH(make_the_database, BIT(ROLE_STREAM)),
                AT_A_PATH(list_its_folder, BIT(ROLE_ASSEMBLE) | BIT(ROLE_STREAM)),
                AT_A_PATH(make_its_log, BIT(ROLE_STREAM)),
                AT_A_PATH(put_it_aside, BIT(ROLE_STREAM)),
                AT_A_PATH(remove_its_log, BIT(ROLE_STREAM)),
                ATTEMPT(make_a_folder, 0),
                AT_A_PATH(rename_a_file, 0),
                ATTEMPT(link_a_file, 0),
                ATTEMPT(change_a_mode, 0),
                ATTEMPT(see_that_a_file_exists, ALL_ROLES),
                ATTEMPT(tcp_socket, BIT(ROLE_INFERENCE)),
                ATTEMPT(tcp6_socket, BIT(ROLE_INFERENCE)),
                ATTEMPT(udp_socket, BIT(ROLE_INFERENCE)),
                ATTEMPT(unix_socket, 0),
                ATTEMPT(raw_socket, 0),
                ATTEMPT(mptcp_socket, 0),
                ATTEMPT(netlink_socket, 0),
                ATTEMPT(packet_socket, 0),
                ATTEMPT(bind_a_socket, 0),
                ATTEMPT(listen_on_a_socket, 0),
                ATTEMPT(accept_by_call, 0),
                ATTEMPT(accept_as_a_server_may, BIT(ROLE_GATEWAY) | BIT(ROLE_TELEMETRY)),
                ATTEMPT(accept_without_flags, 0),
                ATTEMPT(connect_to_a_backend, BIT(ROLE_INFERENCE)),
                ATTEMPT(connect_by_sending, 0),
                ATTEMPT(send_a_datagram, BIT(ROLE_INFERENCE)),
                ATTEMPT(fork_a_process, 0),
                ATTEMPT(clone_a_process, 0),
                ATTEMPT(clone3_a_process, 0),
                ATTEMPT(clone_into_a_namespace, 0),
                ATTEMPT(execute, 0),
                ATTEMPT(start_a_thread,
                                BIT(ROLE_RAG) | BIT(ROLE_ASSEMBLE) | BIT(ROLE_INFERENCE) |
                                                BIT(ROLE_STREAM) | BIT(ROLE_WATCH)),
                ATTEMPT(be_traced, 0),
                ATTEMPT(trace_another, 0),
                ATTEMPT(write_into_another, 0),
                ATTEMPT(signal_another, 0),
                ATTEMPT(signal_everybody, 0),
                ATTEMPT(signal_a_thread_of_another, 0),
                ATTEMPT(signal_by_number, 0),
                ATTEMPT(hold_another, 0),
                ATTEMPT(limit_another, 0),
                ATTEMPT(stay_on_another_core, 0),
                ATTEMPT(write_a_page_that_is_another_s, 0),
                ATTEMPT(map_to_write_and_execute, 0),
                ATTEMPT(map_to_execute, BIT(ROLE_INFERENCE)),
                ATTEMPT(execute_what_was_written, 0),
                ATTEMPT(memory_with_a_name, 0),
                ATTEMPT(system_v_memory, 0),
                ATTEMPT(a_ring_of_its_own, 0),
                ATTEMPT(be_dumped_again, 0),
                ATTEMPT(leave_for_a_namespace, 0),
                ATTEMPT(be_another_user, 0),
                ATTEMPT(change_root, 0),
                ATTEMPT(load_bpf, 0),
                ATTEMPT(count_events, 0),
};

static bool is_refusal(long r) {
        return r == -EPERM || r == -EACCES || r == -ENOSYS;
}

static void try_all(enum mr_role role) {
        for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
                bool may = attempts[i].roles & BIT(role);
                if (attempts[i].by_path && !may && scene.landlock == 0 &&
                                sandbox_rows[role].may & MAY_READ)
                        continue;
                long r = attempts[i].act();
                if (may ? r < 0 : !is_refusal(r))
                        report("%s: %ld\n", attempts[i].what, r);
        }
}

START_TEST(what_a_role_must_not_is_refused_and_what_it_may_is_not) {
        run_all(try_all);
}
END_TEST

/* A number that is in no row is refused whatever it means. */
static bool is_in_the_table(long nr, uint32_t may) {
        static const struct {
                int nr;
                uint32_t sets;
        } calls[] = {
#define CALL(name, sets) {SCMP_SYS(name), sets},
#define CALL_IF(name, sets, ...) {SCMP_SYS(name), sets},
#include "stages/common/sandbox_calls.def"
        };

        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
                if (calls[i].nr == nr && calls[i].sets & may)
                        return true;
        return false;
}

#define CALLS_MAX 600

/* uretprobe and uprobe: the kernel asks no filter about them, and kills whoever makes them but from
 * the trampoline that it has put there itself. */
static bool is_the_kernels_own(long nr) {
        return nr == 335 || nr == 336;
}

static void try_all_calls(enum mr_role role) {
        for (long nr = 0; nr < CALLS_MAX; nr++) {
                if (is_in_the_table(nr, sandbox_may(&sandbox_rows[role])) || is_the_kernels_own(nr))
                        continue;
                long r = once(syscall(nr, 0, 0, 0, 0, 0, 0) == -1 ? -1 : 0);
                if (r != (nr == SYS_clone3 ? -ENOSYS : -EPERM))
                        report("call %ld: %ld\n", nr, r);
        }
}

START_TEST(a_call_that_is_not_in_the_table_is_refused_and_the_caller_goes_on) {
        run_all(try_all_calls);
}
END_TEST

static void try_elsewhere(enum mr_role role) {
        if (!is_refusal(connect_elsewhere()))
                report("%s connects to a port that is no backend's\n", mr_role_name(role));
}

START_TEST(nobody_connects_to_a_port_that_is_no_backends) {
        if (scene.landlock >= 4)
                run_all(try_elsewhere);
}
END_TEST

static void try_abstract(enum mr_role role) {
        (void)role;
        if (!is_refusal(read_the_index()) || !is_refusal(make_its_log()) || !is_refusal(read_etc()) ||
                        !is_refusal(tcp_socket()) || !is_refusal(start_a_thread()))
                report("%s", "a right without a reason\n");
}

START_TEST(without_index_database_and_backend_their_roles_have_no_rights) {
        text_set(&scene.settings->rag.index, "none");
        text_set(&scene.settings->stream.database, "none");
        backend_set(NULL);
        run_all(try_abstract);
}
END_TEST

/* ---- operations of io_uring ---- */

struct tried {
        struct loop_op op;
        int n, res;
};

static void on_tried(struct loop_op *op, int res, uint32_t flags) {
        struct tried *tried = op->owner;
        (void)flags;
        tried->n++;
        tried->res = res;
}

static int try_operation(unsigned opcode, unsigned flags) {
        struct tried tried = {.op = {.fn = on_tried, .owner = &tried}};
        struct io_uring_sqe *sqe = sqe_get(self.loop);

        memset(sqe, 0, sizeof(*sqe));
        sqe->opcode = (uint8_t)opcode;
        sqe->flags = (uint8_t)flags;
        sqe->fd = -1;
        op_begin(&tried.op, sqe);
        while (tried.n == 0)
                if (loop_turn(self.loop, clock_now_ns() + NS_PER_S) < 0)
                        return -ENOTRECOVERABLE;
        return tried.res;
}

static bool may_operate(enum mr_role role, unsigned opcode) {
        const struct sandbox_row *row = &sandbox_rows[role];

        return memchr(own_ops, (int)opcode, sizeof(own_ops)) || memchr(row->ops, (int)opcode, row->n_ops);
}

/* What no kernel here knows is refused as unknown, and by all. */
static void try_all_operations(enum mr_role role) {
        for (unsigned opcode = 0; opcode < 256; opcode++) {
                int r = try_operation(opcode, 0);
                bool refused = r == -EACCES || (r == -EINVAL && opcode >= IORING_OP_LAST);
                if (refused == may_operate(role, opcode))
                        report("operation %u: %d\n", opcode, r);
        }
        for (unsigned flag = 1; flag <= IOSQE_CQE_SKIP_SUCCESS; flag <<= 1) {
                int r = try_operation(IORING_OP_POLL_ADD, flag);
                bool refused = r < 0 && r != -EBADF; /* of a flag: its descriptor was not looked at */
                if (refused == (flag == IOSQE_CQE_SKIP_SUCCESS))
                        report("flag %u: %d\n", flag, r);
        }
}

START_TEST(an_operation_that_is_not_in_the_table_is_refused_by_the_ring) {
        run_all(try_all_operations);
}
END_TEST

static void try_to_change_the_ring(enum mr_role role) {
        (void)role;
        int fd = self.loop->ring.ring_fd;
        struct io_uring_restriction all = {
                        .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_OPENAT};
        struct iovec part = {.iov_base = scene.dir, .iov_len = 8};

        for (unsigned i = 0; i < 32; i++)
                if (syscall(SYS_io_uring_register, fd, i, &part, 1) != -1)
                        report("register %u\n", i);
        if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, &all, 1) != -1)
                report("%s", "restrictions\n");
}

START_TEST(the_rings_restrictions_cannot_be_changed_again) {
        run_all(try_to_change_the_ring);
}
END_TEST

/* ---- what every worker needs ---- */

static void need_memory(void) {
        uint8_t *more = malloc(1 << 20);
        for (size_t n = 1 << 20; more && n <= 64u << 20; n *= 2)
                more = realloc(more, n);
        if (!more)
                report("%s", "no memory\n");
        free(more);
}

static void need_timers(void) {
        struct tried tried = {.op = {.fn = on_tried, .owner = &tried}};
        const uint64_t one = 1;

        loop_poll(self.loop, &tried.op, scene.said, POLLOUT);
        for (int i = 0; i < 100 && tried.n == 0; i++)
                if (loop_turn(self.loop, clock_now_ns() + 20 * NS_PER_MS) < 0)
                        report("%s", "no turn\n");
        if (tried.res != POLLOUT)
                report("poll: %d\n", tried.res);
        loop_ring(self.loop, scene.bell);
        if (write(scene.bell, &one, sizeof(one)) != sizeof(one) || loop_turn(self.loop, 0) < 0)
                report("%s", "a bell cannot be rung\n");
}

static void needs(enum mr_role role) {
        struct timespec t = {.tv_nsec = 1000};
        uint8_t random[16];
        struct stat st;

        (void)role;
        need_memory();
        need_timers();
        if (fstat(scene.said, &st) != 0 || nanosleep(&t, NULL) != 0 ||
                        getrandom(random, sizeof(random), 0) != sizeof(random))
                report("%s", "fstat, nanosleep, getrandom\n");
        if (outcome(recv(scene.said, random, 1, MSG_DONTWAIT)) == 0)
                report("%s", "recv\n");
}

START_TEST(every_role_has_memory_time_chance_and_its_loop) {
        uint64_t rung = 0;

        run_all(needs);
        ck_assert_int_eq(read(scene.bell, &rung, sizeof(rung)), sizeof(rung));
        ck_assert_uint_eq(rung, 2 * ROLES_N); /* with a call, and through the ring */
}
END_TEST

static void crash(enum mr_role role) {
        if (crash_install(&self) == 0 && enter(role) == 0)
                raise(SIGSEGV);
}

static void give_up_itself(enum mr_role role) {
        if (crash_install(&self) == 0 && enter(role) == 0)
                abort();
}

START_TEST(who_crashes_in_its_sandbox_dies_of_its_own_signal) {
        for (uint32_t role = 0; role < ROLES_N; role++) {
                int status = run((enum mr_role)role, false, crash);
                ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
                status = run((enum mr_role)role, false, give_up_itself);
                ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        }
}
END_TEST

/* ---- what single roles need ---- */

static void serve(enum mr_role role) {
        struct tried tried = {.op = {.fn = on_tried, .owner = &tried}};
        struct sockaddr_storage whose;
        struct ucred peer;
        socklen_t len = sizeof(peer), whose_len = sizeof(whose);
        char byte = 0;

        (void)role;
        loop_accept(self.loop, &tried.op, scene.backend);
        while (tried.n == 0)
                if (loop_turn(self.loop, UINT64_MAX) < 0)
                        break;
        int fd = tried.res;
        tried = (struct tried){.op = {.fn = on_tried, .owner = &tried}};
        loop_recv(self.loop, &tried.op, fd, &byte, 1);
        while (tried.n == 0)
                if (loop_turn(self.loop, UINT64_MAX) < 0)
                        break;
        if (fd < 0 || tried.res != 1 || byte != 'q')
                report("accept %d, recv %d\n", fd, tried.res);
        tried = (struct tried){.op = {.fn = on_tried, .owner = &tried}};
        loop_send(self.loop, &tried.op, fd, "a", 1);
        while (tried.n == 0)
                if (loop_turn(self.loop, UINT64_MAX) < 0)
                        break;
        if (tried.res != 1 || send(fd, "b", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1 ||
                        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 ||
                        getpeername(fd, (struct sockaddr *)&whose, &whose_len) != 0 ||
                        shutdown(fd, SHUT_WR) != 0)
                report("%s", "send, getsockopt, getpeername, shutdown\n");
        if (MR_SANITIZED) /* there is no filter, and that would be somebody's connection */
                return;
        /* A listener that is shut is a socket without an address. */
        (void)shutdown(scene.elsewhere, SHUT_RDWR);
        long r = outcome(sendto(scene.elsewhere, "x", 1, MSG_FASTOPEN,
                        (const struct sockaddr *)at(scene.backend_port), sizeof(*at(0))));
        if (r != -EPERM)
                report("connect by sending: %ld\n", r);
}

START_TEST(gateway_and_telemetry_serve_the_connections_that_their_loop_accepts) {
        static const enum mr_role roles[] = {ROLE_GATEWAY, ROLE_TELEMETRY};

        for (size_t i = 0; i < 2; i++) {
                char answer[3] = "";
                int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                ck_assert_int_eq(connect(fd, (const struct sockaddr *)at(scene.backend_port),
                                                 sizeof(*at(0))),
                                0);
                ck_assert_int_eq(write(fd, "q", 1), 1);
                ck_assert_int_eq(run(roles[i], true, serve), 0);
                ck_assert_int_eq(recv(fd, answer, 2, MSG_WAITALL), 2);
                ck_assert_str_eq(answer, "ab");
                close(fd);
        }
}
END_TEST

static void keep_a_database(enum mr_role role) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
        char byte = 0;
        int fd = openat(AT_FDCWD, scene.database, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        (void)role;
        if (fd < 0 || pwrite(fd, "d", 1, PAGE) != 1 || pread(fd, &byte, 1, PAGE) != 1 || byte != 'd' ||
                        fcntl(fd, F_SETLK, &lock) != 0 || fsync(fd) != 0 || fdatasync(fd) != 0 ||
                        ftruncate(fd, 2 * PAGE) != 0)
                report("the file: %s\n", strerror(errno));
        void *map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED || access(scene.database, F_OK) != 0)
                report("the map: %s\n", strerror(errno));
        int folder = openat(AT_FDCWD, scene.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0 || flock(folder, LOCK_EX) != 0 || fsync(folder) != 0 ||
                        unlink(scene.database) != 0)
                report("the folder: %s\n", strerror(errno));
        if (openat(AT_FDCWD, "/dev/urandom", O_RDONLY) < 0 || start_a_thread() != 0)
                report("urandom, a thread: %s\n", strerror(errno));
}

START_TEST(stream_can_keep_a_database_in_its_folder) {
        ck_assert_int_eq(run(ROLE_STREAM, true, keep_a_database), 0);
}
END_TEST

static void read_a_database(enum mr_role role) {
        struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
        int fd = openat(AT_FDCWD, scene.database, O_RDONLY | O_CLOEXEC);
        char byte;

        (void)role;
        if (fd < 0 || pread(fd, &byte, 1, 0) != 1 || fcntl(fd, F_SETLK, &lock) != 0 ||
                        mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
                report("the file: %s\n", strerror(errno));
        if (!is_refusal(outcome(openat(AT_FDCWD, scene.database, O_RDWR))) ||
                        !is_refusal(outcome(pwrite(fd, "x", 1, 0))) ||
                        !is_refusal(remove_its_log()) || !is_refusal(make_its_log()))
                report("%s", "assemble writes\n");
}

START_TEST(assemble_reads_the_database_and_writes_nothing) {
        file_make(scene.database);
        file_make(scene.wal);
        ck_assert_int_eq(run(ROLE_ASSEMBLE, true, read_a_database), 0);
        scene.settings->sessions.history_turns = 0;
        ck_assert_int_eq(run(ROLE_ASSEMBLE, true, try_abstract), 0);
}
END_TEST

static void find_a_backend(enum mr_role role) {
        const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
        struct addrinfo *found = NULL;
        int r = getaddrinfo("localhost", NULL, &hints, &found);

        (void)role;
        if (r != 0)
                report("localhost: %s\n", gai_strerror(r));
        else
                freeaddrinfo(found);
}

START_TEST(inference_finds_its_backends_by_name) {
        ck_assert_int_eq(run(ROLE_INFERENCE, true, find_a_backend), 0);
}
END_TEST

static void ask_a_service(enum mr_role role) {
        if (enter(role) != 0 || connect_to_a_backend() < 0 || read_the_index() < 0 ||
                        start_a_thread() < 0)
                report("rag and its service: %s\n", strerror(errno));
        if (scene.landlock >= 4 && !is_refusal(connect_elsewhere()))
                report("%s", "rag connects to a port that is no service's\n");
        if (!is_refusal(make_its_log()))
                report("%s", "rag writes\n");
        find_a_backend(role);
}

static void watch_and_ask(enum mr_role role) {
        if (enter(role) != 0 || connect_to_a_backend() < 0 || write_the_index() < 0 ||
                        read_a_watched_file() < 0 || watch_a_folder() < 0)
                report("watch and its service: %s\n", strerror(errno));
        if (scene.landlock >= 4 && !is_refusal(connect_elsewhere()))
                report("%s", "watch connects to a port that is no service's\n");
        if (!is_refusal(write_a_watched_file()) || !is_refusal(make_its_log()))
                report("%s", "watch writes elsewhere\n");
        find_a_backend(role);
}

START_TEST(rag_and_watch_reach_the_services_that_they_are_given_and_nothing_else) {
        struct settings_endpoint *endpoint = calloc(1, sizeof(*endpoint));
        char url[64];

        ck_assert_int_eq(settings_shape_default(&settings_endpoint_shape, endpoint), 0);
        snprintf(url, sizeof(url), "http://localhost:%u/v1", scene.backend_port);
        text_set(&endpoint->url, url);
        scene.settings->rag.embeddings = endpoint;
        ck_assert_int_eq(run(ROLE_RAG, false, ask_a_service), 0);
        ck_assert_int_eq(run(ROLE_WATCH, false, watch_and_ask), 0);
}
END_TEST

/* ---- kernels that lack something ---- */

/* From here on this process meets a kernel without that call. */
static void forget_a_call(int nr, int error) {
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

        ck_assert_int_eq(seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned)error), nr, 0), 0);
        ck_assert_int_eq(seccomp_load(filter), 0);
        seccomp_release(filter);
}

static void without_landlock(enum mr_role role) {
        forget_a_call(SCMP_SYS(landlock_create_ruleset), ENOSYS);
        if (landlock_version() != 0)
                report("%s", "Landlock is there\n");
        int r = enter(role);
        if (r != 0)
                report("sandbox_enter: %d\n", r);
        bool opens_files = sandbox_rows[role].may & MAY_READ;
        if (is_refusal(read_a_file()) == opens_files)
                report("%s", "landlock.h says another thing of a kernel without Landlock\n");
        bool connects = sandbox_rows[role].may & MAY_CONNECT;
        if (is_refusal(connect_elsewhere()) == connects)
                report("%s", "connections\n");
        bool writes_files = sandbox_rows[role].may & MAY_WRITE;
        if (is_refusal(write_a_file()) == writes_files || !is_refusal(fork_a_process()) ||
                        !is_refusal(signal_a_thread_of_another()))
                report("%s", "the filter is not on\n");
}

START_TEST(without_landlock_the_filter_still_holds) {
        for (uint32_t role = 0; role < ROLES_N; role++)
                ck_assert_int_eq(run((enum mr_role)role, false, without_landlock), 0);
        ck_assert_ptr_nonnull(strstr(landlock_lack(), "Landlock"));
}
END_TEST

static void without_seccomp(enum mr_role role) {
        forget_a_call(SCMP_SYS(seccomp), EINVAL);
        int r = enter(role);
        if (r != SANDBOX_E_SECCOMP)
                report("sandbox_enter: %d\n", r);
}

START_TEST(without_seccomp_no_worker_runs) {
        ck_assert_int_eq(run(ROLE_ASSEMBLE, false, without_seccomp), 0);
        ck_assert_ptr_nonnull(strstr(sandbox_remedy(SANDBOX_E_SECCOMP), "CONFIG_SECCOMP_FILTER"));
}
END_TEST

static void *forever(void *arg) {
        for (;;)
                pause();
        return arg;
}

static void with_a_thread(enum mr_role role) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, forever, NULL) != 0)
                report("%s", "no thread\n");
        int r = enter(role);
        if (r != SANDBOX_E_THREADS)
                report("sandbox_enter: %d\n", r);
}

START_TEST(a_thread_that_would_stay_outside_is_refused) {
        ck_assert_int_eq(run(ROLE_RAG, false, with_a_thread), 0);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("sandbox");
        TCase *tcase = tcase_create("sandbox");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 120);
        if (!MR_SANITIZED) { /* their builds have the ring's restrictions only */
                tcase_add_test(tcase, what_a_role_must_not_is_refused_and_what_it_may_is_not);
                tcase_add_test(tcase, a_call_that_is_not_in_the_table_is_refused_and_the_caller_goes_on);
                tcase_add_test(tcase, nobody_connects_to_a_port_that_is_no_backends);
                tcase_add_test(tcase, assemble_reads_the_database_and_writes_nothing);
                tcase_add_test(tcase, rag_and_watch_reach_the_services_that_they_are_given_and_nothing_else);
                tcase_add_test(tcase, without_index_database_and_backend_their_roles_have_no_rights);
                tcase_add_test(tcase, without_landlock_the_filter_still_holds);
                tcase_add_test(tcase, without_seccomp_no_worker_runs);
                tcase_add_test(tcase, a_thread_that_would_stay_outside_is_refused);
        }
        tcase_add_test(tcase, an_operation_that_is_not_in_the_table_is_refused_by_the_ring);
        tcase_add_test(tcase, the_rings_restrictions_cannot_be_changed_again);
        tcase_add_test(tcase, every_role_has_memory_time_chance_and_its_loop);
        tcase_add_test(tcase, who_crashes_in_its_sandbox_dies_of_its_own_signal);
        tcase_add_test(tcase, gateway_and_telemetry_serve_the_connections_that_their_loop_accepts);
        tcase_add_test(tcase, stream_can_keep_a_database_in_its_folder);
        tcase_add_test(tcase, inference_finds_its_backends_by_name);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
