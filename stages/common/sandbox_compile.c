/*
 * sandbox_compile -- makes the seccomp filters of all roles while the daemon is built.
 *
 * A worker that made its filter itself would need libseccomp and some milliseconds for it, each time
 * that it is started; so it gets finished programs. Writes C to standard output.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <fcntl.h>

#include "stages/common/sandbox_table.h"

/* ---- words of sandbox_calls.def ---------------------------------------------------------------
 */

#define SANDBOX_CLONE_NEW                                                                          \
        (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | \
                        CLONE_NEWCGROUP)
#define SANDBOX_OPEN_WRITES (O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY))
#define SOCKET_TYPE 0xf /* without SOCK_CLOEXEC, SOCK_NONBLOCK */
#define SANDBOX_SOCKET(domain, type, protocol)                                                     \
        SCMP_A0(SCMP_CMP_EQ, (domain)), SCMP_A1(SCMP_CMP_MASKED_EQ, SOCKET_TYPE, (type)),          \
                        SCMP_A2(SCMP_CMP_EQ, (protocol))

/* ---- filters ----------------------------------------------------------------------------------
 */

static _Noreturn void give_up(const char *what, int error) {
        fprintf(stderr, "sandbox_compile: %s: %s\n", what, strerror(error < 0 ? -error : error));
        exit(1);
}

static void allow(scmp_filter_ctx filter, const char *name, int nr, unsigned n_args,
                const struct scmp_arg_cmp *args) {
        int r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, nr, n_args, args);

        if (r < 0)
                give_up(name, r);
}

#define N_ARGS(...) (sizeof((struct scmp_arg_cmp[]){__VA_ARGS__}) / sizeof(struct scmp_arg_cmp))

static void allow_all(scmp_filter_ctx filter, uint32_t may) {
#define CALL(name, sets)                                                                           \
        if ((sets)&may)                                                                            \
                allow(filter, #name, SCMP_SYS(name), 0, NULL);
#define CALL_IF(name, sets, ...)                                                                   \
        if ((sets)&may)                                                                            \
                allow(filter, #name, SCMP_SYS(name), (unsigned)N_ARGS(__VA_ARGS__),                \
                                (const struct scmp_arg_cmp[]){__VA_ARGS__});
#include "stages/common/sandbox_calls.def"
}

static scmp_filter_ctx filter_of(uint32_t may) {
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));

        if (!filter)
                give_up("seccomp_init", ENOMEM);
        /* Another instruction set's numbers mean other calls. */
        seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
        allow_all(filter, may);
        /* Its flags lie in memory, where a filter cannot look; the C library then takes clone. */
        int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
        if (r < 0)
                give_up("clone3", r);
        return filter;
}

static void print_program(const char *name, uint32_t may) {
        scmp_filter_ctx filter = filter_of(may);
        FILE *file = tmpfile();
        struct sock_filter step;

        if (!file)
                give_up("tmpfile", errno);
        int r = seccomp_export_bpf(filter, fileno(file));
        if (r < 0)
                give_up("seccomp_export_bpf", r);
        rewind(file);
        printf("static struct sock_filter %s[] = {\n", name);
        while (fread(&step, sizeof(step), 1, file) == 1)
                printf("        {%u, %u, %u, %uu},\n", step.code, step.jt, step.jf, step.k);
        printf("};\n\n");
        fclose(file);
        seccomp_release(filter);
}

int main(void) {
        printf("/* Made by sandbox_compile.c out of sandbox_calls.def and sandbox_table.c. */\n"
               "#include \"stages/common/sandbox_table.h\"\n\n");
        print_program("bare", sandbox_may(&sandbox_bare));
        print_program("retrieval", sandbox_may(&sandbox_retrieval));
        print_program("watching", sandbox_may(&sandbox_watching));
        for (uint32_t role = 0; role < ROLES_N; role++)
                print_program(mr_role_name(role), sandbox_may(&sandbox_rows[role]));
        printf("const struct sock_fprog sandbox_filter_bare = {sizeof(bare) / sizeof(bare[0]), "
               "bare};\n");
        printf("const struct sock_fprog sandbox_filter_retrieval = {sizeof(retrieval) / "
               "sizeof(retrieval[0]), retrieval};\n");
        printf("const struct sock_fprog sandbox_filter_watching = {sizeof(watching) / "
               "sizeof(watching[0]), watching};\n");
        printf("const struct sock_fprog sandbox_filters[ROLES_N] = {\n");
        for (uint32_t role = 0; role < ROLES_N; role++)
                printf("        {sizeof(%s) / sizeof(%s[0]), %s},\n", mr_role_name(role),
                                mr_role_name(role), mr_role_name(role));
        printf("};\n");
        return fflush(stdout) == 0 ? 0 : 1;
}
