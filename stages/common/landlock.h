/*
 * landlock -- which files and ports the calling thread, and what it starts, may still reach.
 *
 * Shape   everything that the kernel's Landlock can forbid is forbidden, but for what is named here
 * Units   ports in the host's order
 * Owner   the caller owns paths and ports; nothing can be taken back
 * Errors  0, -errno, LANDLOCK_E_MISSING; a path that is not there is left out
 * Limits  LANDLOCK_PATHS_MAX, LANDLOCK_PORTS_MAX
 *
 * Landlock sees what is asked through io_uring as well. What it can forbid depends on the kernel:
 * files from version 1 (Linux 5.13), truncating from 3 (6.2), TCP from 4 (6.7), ioctl of devices from
 * 5 (6.10), signals and abstract sockets from 6 (6.12).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LANDLOCK_PATHS_MAX 272 /* rag.watch may name 256 */
#define LANDLOCK_PORTS_MAX 260

enum landlock_error { LANDLOCK_E_MISSING = 1 };

struct landlock_path {
        const char *path;
        bool writable; /* a folder: files in it may also be made, written, cut and removed */
};

struct landlock_grant {
        uint32_t n_paths, n_ports;
        struct landlock_path paths[LANDLOCK_PATHS_MAX]; /* a folder stands for all below it */
        uint16_t ports[LANDLOCK_PORTS_MAX];             /* TCP, outwards */
};

/* What the kernel has: 0 none (missing, or switched off). */
int landlock_version(void);
/* What is lost where there is none, for the user. */
const char *landlock_lack(void);
/* no_new_privs must be set. */
int landlock_enter(const struct landlock_grant *grant);
