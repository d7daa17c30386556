#include "shm/segment.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SEGMENT_DIR "/dev/shm"

/* One word after the user's number: a dot or a slash in it would name other instances' objects. */
static bool instance_valid(const char *instance) {
        if (*instance == '\0')
                return false;
        for (const char *c = instance; *c != '\0'; c++)
                if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
                        return false;
        return true;
}

int segment_name(char buf[static SEGMENT_NAME_MAX], const char *instance, const char *object) {
        int n;

        if (!instance_valid(instance) || *object == '\0' || strchr(object, '/') != NULL)
                return -EINVAL;
        n = snprintf(buf, SEGMENT_NAME_MAX, "/millrace.%u.%s.%s", (unsigned)getuid(), instance,
                        object);
        return n < 0 || n >= (int)SEGMENT_NAME_MAX ? -ENAMETOOLONG : 0;
}

int segment_object_name(char *buf, uint32_t n, enum mr_object kind, uint32_t a, uint32_t b) {
        static const struct {
                const char *head, *tail;
        } part[OBJECTS_N] = {
                        [OBJECT_TOPOLOGY] = {"topology", ""},
                        [OBJECT_RING_PROD] = {"ring", ".p"},
                        [OBJECT_RING_CONS] = {"ring", ".c"},
                        [OBJECT_SLAB] = {"slab", ""},
                        [OBJECT_ADMISSION] = {"admission", ""},
                        [OBJECT_ARENA] = {"arena", ""},
                        [OBJECT_LOG] = {"log", ""},
                        [OBJECT_COUNTERS] = {"counters", ""},
                        [OBJECT_SIDE] = {"side", ""},
        };
        char first[16] = "", second[24] = "";
        int len;

        if ((unsigned)kind >= OBJECTS_N)
                return -EINVAL;
        if (a != UINT32_MAX)
                snprintf(first, sizeof(first), ".%u", a);
        if (b != UINT32_MAX && kind == OBJECT_SLAB && mr_role_name((enum mr_role)b) != NULL)
                snprintf(second, sizeof(second), ".%s", mr_role_name((enum mr_role)b));
        else if (b != UINT32_MAX)
                snprintf(second, sizeof(second), ".%u", b);
        len = snprintf(buf, n, "%s%s%s%s", part[kind].head, first, second, part[kind].tail);
        return len < 0 || (uint32_t)len >= n ? -ENAMETOOLONG : 0;
}

void segment_close(struct segment_fds *fds) {
        int keep = errno;

        if (fds->rw >= 0)
                close(fds->rw);
        if (fds->ro >= 0)
                close(fds->ro);
        *fds = (struct segment_fds){.rw = -1, .ro = -1};
        errno = keep;
}

/* Ours alone, of the size that was asked for. */
static int check_object(int fd, uint64_t bytes, struct stat *ret_stat) {
        struct stat st;

        if (fstat(fd, &st) == -1)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 07777) != 0600 ||
                        st.st_nlink != 1)
                return -EACCES;
        if ((uint64_t)st.st_size != bytes)
                return -EPROTO;
        *ret_stat = st;
        return 0;
}

/* The read-only descriptor of what fds->rw already is: the name may have changed hands in between.
 */
static int open_read_only(const char *name, uint64_t bytes, struct segment_fds *fds) {
        struct stat rw, ro;
        int r;

        fds->ro = shm_open(name, O_RDONLY | O_CLOEXEC, 0);
        if (fds->ro == -1)
                return -errno;
        r = check_object(fds->rw, bytes, &rw);
        if (r == 0)
                r = check_object(fds->ro, bytes, &ro);
        if (r < 0)
                return r;
        return rw.st_dev == ro.st_dev && rw.st_ino == ro.st_ino ? 0 : -EACCES;
}

/* Allocates every page now: without it the first touch of a full file system is a SIGBUS. */
static int allocate(int fd, uint64_t bytes) {
        int r;

        do
                r = posix_fallocate(fd, 0, (off_t)bytes);
        while (r == EINTR);
        return -r;
}

static int size(int fd, uint64_t bytes, uint64_t first) {
        if (fchmod(fd, 0600) == -1) /* whatever the umask took away */
                return -errno;
        if (first < bytes && ftruncate(fd, (off_t)bytes) == -1)
                return -errno;
        return allocate(fd, first);
}

int segment_create(const char *name, uint64_t bytes, struct segment_fds *ret) {
        return segment_create_thin(name, bytes, bytes, ret);
}

int segment_fill(const struct segment_fds *fds, uint64_t bytes) {
        return allocate(fds->rw, bytes);
}

int segment_create_thin(
                const char *name, uint64_t bytes, uint64_t first, struct segment_fds *ret) {
        struct segment_fds fds = {.rw = -1, .ro = -1};
        int r;

        if (bytes == 0 || bytes > INT64_MAX || first == 0 || first > bytes)
                return -EINVAL;
        fds.rw = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fds.rw == -1)
                return -errno;
        r = size(fds.rw, bytes, first);
        if (r == 0)
                r = open_read_only(name, bytes, &fds);
        if (r < 0) {
                segment_close(&fds);
                (void)shm_unlink(name);
                return r;
        }
        *ret = fds;
        return 0;
}

int segment_open(const char *name, uint64_t bytes, struct segment_fds *ret) {
        struct segment_fds fds = {.rw = -1, .ro = -1};
        int r;

        fds.rw = shm_open(name, O_RDWR | O_CLOEXEC, 0);
        if (fds.rw == -1)
                return -errno;
        r = open_read_only(name, bytes, &fds);
        if (r < 0) {
                segment_close(&fds);
                return r;
        }
        *ret = fds;
        return 0;
}

int segment_unlink(const char *name) {
        return shm_unlink(name) == -1 ? -errno : 0;
}

int segment_list(const char *instance, void (*fn)(const char *name, void *ctx), void *ctx) {
        char prefix[SEGMENT_NAME_MAX], name[SEGMENT_NAME_MAX];
        struct dirent *entry;
        size_t len;
        DIR *dir;
        int r;

        r = segment_name(prefix, instance, ".");
        if (r < 0)
                return r;
        len = strlen(prefix) - 1; /* "/millrace.<uid>.<instance>." */
        dir = opendir(SEGMENT_DIR);
        if (!dir)
                return -errno;
        while ((entry = readdir(dir)) != NULL) {
                /* The lock is a plain file of the supervisor, which unlinks it last. */
                if (strncmp(entry->d_name, prefix + 1, len - 1) != 0 ||
                                strcmp(entry->d_name + len - 1, "lock") == 0)
                        continue;
                if (snprintf(name, sizeof(name), "/%s", entry->d_name) < (int)sizeof(name))
                        fn(name, ctx);
        }
        closedir(dir);
        return 0;
}

int segment_space(uint64_t *ret_free, uint64_t *ret_total) {
        struct statvfs vfs;

        if (statvfs(SEGMENT_DIR, &vfs) == -1)
                return -errno;
        *ret_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
        *ret_total = (uint64_t)vfs.f_blocks * vfs.f_frsize;
        return 0;
}

/* Prompts do not belong in a core file. */
static void keep_out_of_cores(void *map, uint64_t bytes) {
        (void)madvise(map, bytes, MADV_DONTDUMP);
}

int segment_map(int fd, uint64_t bytes, bool writable, void **ret) {
        void *map = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd,
                        0);

        if (map == MAP_FAILED)
                return -errno;
        keep_out_of_cores(map, bytes);
        *ret = map;
        return 0;
}

void segment_populate(void *at, uint64_t bytes, bool writable) {
        (void)madvise(at, bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

void segment_unmap(void *map, uint64_t bytes) {
        if (map)
                munmap(map, bytes);
}

/* The whole object, and behind it its payload bytes once more, so that a record that crosses the
 * end lies contiguous. The second mapping goes into address space that was reserved for it. */
static int map_twice(int fd, uint64_t bytes, uint64_t twice, bool writable, void **ret) {
        int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
        uint8_t *base;
        int r = 0;

        base = mmap(NULL, bytes + twice, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                        0);
        if (base == MAP_FAILED)
                return -errno;
        if (mmap(base, bytes, prot, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
                        mmap(base + bytes, twice, prot, MAP_SHARED | MAP_FIXED, fd,
                                        (off_t)(bytes - twice)) == MAP_FAILED)
                r = -errno;
        if (r < 0) {
                munmap(base, bytes + twice);
                return r;
        }
        keep_out_of_cores(base, bytes + twice);
        *ret = base;
        return 0;
}

static int check_size(int fd, uint64_t bytes) {
        struct stat st;

        if (fstat(fd, &st) == -1)
                return -errno;
        return (uint64_t)st.st_size == bytes ? 0 : -EPROTO;
}

int segment_map_ring(int prod_fd, int cons_fd, const struct ring_geometry *geo, bool producer,
                struct ring_map *ret) {
        uint64_t prod_bytes, cons_bytes;
        void *prod = NULL, *cons = NULL;
        int r;

        r = ring_geometry_check(geo);
        if (r < 0)
                return r;
        prod_bytes = ring_prod_bytes(geo);
        cons_bytes = ring_cons_bytes(geo);
        r = check_size(prod_fd, prod_bytes);
        if (r == 0)
                r = check_size(cons_fd, cons_bytes);
        if (r < 0)
                return r;
        r = map_twice(prod_fd, prod_bytes, geo->bytes, producer, &prod);
        if (r < 0)
                return r;
        r = segment_map(cons_fd, cons_bytes, !producer, &cons);
        if (r < 0) {
                munmap(prod, prod_bytes + geo->bytes);
                return r;
        }
        *ret = (struct ring_map){
                        .geo = *geo,
                        .prod = prod,
                        .desc = (struct ring_desc *)((uint8_t *)prod + LAYOUT_PAGE),
                        .data = (uint8_t *)prod + prod_bytes - geo->bytes,
                        .cons = cons,
        };
        return 0;
}

void segment_unmap_ring(struct ring_map *map) {
        if (!map->prod)
                return;
        munmap(map->prod, ring_prod_bytes(&map->geo) + map->geo.bytes);
        munmap(map->cons, ring_cons_bytes(&map->geo));
        *map = (struct ring_map){.prod = NULL};
}
