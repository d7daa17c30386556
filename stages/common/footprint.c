#include "stages/common/footprint.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

static uint64_t heap_bytes(void) {
        struct mallinfo2 heap = mallinfo2();

        return heap.arena + heap.hblkhd;
}

int footprint_begin(struct footprint *footprint) {
        unsigned long long data_pages;
        FILE *f = fopen("/proc/self/statm", "re");
        uint64_t data, heap;
        int n;

        if (!f)
                return -errno;
        /* size resident shared text lib data dt, in pages; data is private data and stacks */
        n = fscanf(f, "%*u %*u %*u %*u %*u %llu", &data_pages);
        fclose(f);
        if (n != 1)
                return -EPROTO;
        data = data_pages * (uint64_t)sysconf(_SC_PAGESIZE);
        heap = heap_bytes();
        footprint->rest_bytes = data > heap ? data - heap : 0;
        return 0;
}

uint64_t footprint_bytes(const struct footprint *footprint) {
        return footprint->rest_bytes + heap_bytes();
}
