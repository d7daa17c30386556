/* io_uring, sandbox, shared memory, cores, descriptors: what the kernel grants this process. */
#include <dirent.h>
#include <errno.h>
#include <liburing.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/check_cmd.h"
#include "stages/common/landlock.h"
#include "stages/common/sandbox.h"
#include "supervisor/topology.h"

#define RING_ENTRIES 8
#define CORES_MAX 1024U
/* Descriptors of a gateway beside its connections: rings, bells, objects, listeners. */
#define DESCRIPTORS_OWN 256U

static void look_io_uring(struct check_run *run) {
        struct io_uring ring;
        int r = io_uring_queue_init(RING_ENTRIES, &ring, 0);
        const char *remedy;

        if (r == 0) {
                io_uring_queue_exit(&ring);
                check_finding(run, CHECK_OK, "io_uring", NULL, "usable");
                return;
        }
        switch (-r) {
        case EPERM:
        case EACCES:
                remedy = "allow it: sysctl kernel.io_uring_disabled=0; in a container "
                         "--security-opt seccomp=PROFILE with io_uring_setup, io_uring_enter and "
                         "io_uring_register allowed";
                break;
        case ENOSYS:
                remedy = "run a kernel from 5.19 on, built with CONFIG_IO_URING";
                break;
        case ENOMEM:
                remedy = "raise the limit of locked memory (ulimit -l, LimitMEMLOCK=)";
                break;
        default:
                remedy = "see the kernel's log";
                break;
        }
        check_finding(run, CHECK_BAD, "io_uring", remedy, "refused: %s", strerror(-r));
}

/* Without filters no worker runs; Landlock is a second wall. */
static void look_sandbox(struct check_run *run) {
        const uint32_t action = SECCOMP_RET_ERRNO;
        int version = landlock_version();

        if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == -1) {
                check_finding(run, CHECK_BAD, "sandbox",
                              sandbox_remedy(SANDBOX_E_SECCOMP), "seccomp: %s", strerror(errno));
                return;
        }
        if (version == 0)
                check_finding(run, CHECK_WARN, "sandbox", landlock_lack(), "seccomp; no Landlock");
        else
                check_finding(run, CHECK_OK, "sandbox", NULL, "seccomp, Landlock version %d",
                              version);
}

/* What the running instance holds already and would hold again. */
static uint64_t bytes_of_instance(const char *instance) {
        char prefix[128];
        uint64_t bytes = 0;
        struct dirent *entry;
        struct stat st;
        DIR *dir = opendir("/dev/shm");

        if (!dir)
                return 0;
        snprintf(prefix, sizeof(prefix), "millrace.%u.%s.", (unsigned)getuid(), instance);
        while ((entry = readdir(dir)))
                if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
                    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                        bytes += (uint64_t)st.st_blocks * 512;
        closedir(dir);
        return bytes;
}

static void look_shm(struct check_run *run, const struct settings *s) {
        uint64_t needed = topology_shm_bytes(s), free_bytes;
        char remedy[256];
        struct statvfs fs;

        if (needed == 0) {
                check_finding(run, CHECK_BAD, "shm",
                              "make memory.ring_bytes larger, or channels and "
                              "admission.max_in_flight smaller",
                              "the settings ask for rings that cannot be laid out");
                return;
        }
        if (statvfs("/dev/shm", &fs)) {
                check_finding(run, CHECK_BAD, "shm", "mount a tmpfs there",
                              "/dev/shm: %s; %llu bytes are needed", strerror(errno),
                              (unsigned long long)needed);
                return;
        }
        free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize + bytes_of_instance(s->instance);
        snprintf(remedy, sizeof(remedy),
                 "give it %llu MiB (mount -o remount,size=, docker --shm-size), or make "
                 "lanes, memory.ring_bytes, admission.arena_bytes or stream.log_bytes smaller",
                 (unsigned long long)(needed >> 20) + 1);
        check_finding(run, needed > free_bytes ? CHECK_BAD : CHECK_OK, "shm",
                      needed > free_bytes ? remedy : NULL,
                      "/dev/shm has %llu bytes free, %llu are needed",
                      (unsigned long long)free_bytes, (unsigned long long)needed);
}

static void look_cores(struct check_run *run, const struct settings *s) {
        uint32_t cores[CORES_MAX];
        uint32_t n = topology_cores(cores, CORES_MAX);
        uint32_t lanes = topology_lanes(s, n), gateways = topology_gateways(s, lanes);

        check_finding(run, lanes > n ? CHECK_WARN : CHECK_OK, "cores",
                      lanes > n ? "set lanes to auto, or to the number of cores" : NULL,
                      "%u for %u lanes and %u gateways", n, lanes, gateways);
}

/* A gateway may hold a connection for each request that is in flight or waits at its door. */
static void look_descriptors(struct check_run *run, const struct settings *s) {
        uint32_t cores[CORES_MAX];
        uint32_t lanes = topology_lanes(s, topology_cores(cores, CORES_MAX));
        uint64_t needed =
                DESCRIPTORS_OWN + lanes * s->admission.max_in_flight + s->admission.queue;
        struct rlimit limit;
        char remedy[128];

        if (getrlimit(RLIMIT_NOFILE, &limit)) {
                check_finding(run, CHECK_WARN, "files", NULL, "cannot be asked: %s",
                              strerror(errno));
                return;
        }
        snprintf(remedy, sizeof(remedy), "ulimit -n %llu, or LimitNOFILE=%llu",
                 (unsigned long long)needed, (unsigned long long)needed);
        check_finding(run, limit.rlim_max < needed ? CHECK_WARN : CHECK_OK, "files",
                      limit.rlim_max < needed ? remedy : NULL,
                      "%llu descriptors at most, %llu for every admitted and waiting request "
                      "on a connection of its own",
                      (unsigned long long)limit.rlim_max, (unsigned long long)needed);
}

void check_machine(struct check_run *run, const struct settings *s) {
        look_io_uring(run);
        look_sandbox(run);
        look_shm(run, s);
        look_cores(run, s);
        look_descriptors(run, s);
}
