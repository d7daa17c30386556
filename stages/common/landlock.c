#include "stages/common/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- what headers older than the kernel do not know -------------------------------------------
 */

#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define NET_BIND_TCP (1ull << 0)
#define NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT_UNIX (1ull << 0)
#define SCOPE_SIGNAL (1ull << 1)
#define RULE_NET_PORT 2

struct ruleset {
        uint64_t fs;
        uint64_t net;
        uint64_t scoped;
};

struct net_port {
        uint64_t allowed_access;
        uint64_t port;
};

/* ---- rights -----------------------------------------------------------------------------------
 */

#define FS_FIRST (LANDLOCK_ACCESS_FS_REFER - 1) /* all of version 1 */
#define FS_OF_FILES                                                                                \
        (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_WRITE                                                                                   \
        (FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |                   \
                        LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE)

static struct ruleset handled(int version) {
        struct ruleset all = {.fs = FS_FIRST};

        if (version >= 2)
                all.fs |= LANDLOCK_ACCESS_FS_REFER;
        if (version >= 3)
                all.fs |= FS_TRUNCATE;
        if (version >= 4)
                all.net = NET_BIND_TCP | NET_CONNECT_TCP;
        if (version >= 5)
                all.fs |= FS_IOCTL_DEV;
        if (version >= 6)
                all.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
        return all;
}

/* What older kernels take is shorter. */
static size_t ruleset_bytes(int version) {
        if (version >= 6)
                return sizeof(struct ruleset);
        return version >= 4 ? offsetof(struct ruleset, scoped) : offsetof(struct ruleset, net);
}

/* ---- rules ------------------------------------------------------------------------------------
 */

static int add_path(int ruleset, const struct landlock_path *path, uint64_t handled_fs) {
        struct landlock_path_beneath_attr rule = {
                        .allowed_access = (path->writable ? FS_WRITE : FS_READ) & handled_fs};
        struct stat st;
        long r = 0;
        int fd = open(path->path, O_PATH | O_CLOEXEC);

        if (fd == -1)
                return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -errno;
        if (fstat(fd, &st) == -1)
                r = -1;
        if (r == 0 && !S_ISDIR(st.st_mode))
                rule.allowed_access &= FS_OF_FILES;
        rule.parent_fd = fd;
        if (r == 0)
                r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
        int error = r == -1 ? -errno : 0;
        close(fd);
        return error;
}

static int add_port(int ruleset, uint16_t port) {
        const struct net_port rule = {.allowed_access = NET_CONNECT_TCP, .port = port};

        return syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) == -1 ? -errno : 0;
}

static int add_all(int ruleset, const struct landlock_grant *grant, const struct ruleset *all) {
        int r = 0;

        for (uint32_t i = 0; i < grant->n_paths && r == 0; i++)
                r = add_path(ruleset, &grant->paths[i], all->fs);
        for (uint32_t i = 0; i < grant->n_ports && r == 0 && all->net; i++)
                r = add_port(ruleset, grant->ports[i]);
        return r;
}

/* ---- entering ---------------------------------------------------------------------------------
 */

int landlock_version(void) {
        long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
                        LANDLOCK_CREATE_RULESET_VERSION);

        return version > 0 ? (int)version : 0;
}

const char *landlock_lack(void) {
        return "this kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, lsm=landlock,...): rag, stream, "
               "inference and watch are held to the kinds of their system calls, not to their files and "
               "ports";
}

int landlock_enter(const struct landlock_grant *grant) {
        int version = landlock_version();
        const struct ruleset all = handled(version);

        if (version == 0)
                return LANDLOCK_E_MISSING;
        int ruleset = (int)syscall(
                        SYS_landlock_create_ruleset, &all, ruleset_bytes(version), 0);
        if (ruleset == -1)
                return -errno;
        int r = add_all(ruleset, grant, &all);
        if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) == -1)
                r = -errno;
        close(ruleset);
        return r;
}
