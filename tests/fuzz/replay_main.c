/* Runs a fuzzer's entry over every file of its corpus folders, where there is no libFuzzer: a crash
 * is a failed test, and an empty or missing folder is one too. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path) {
        struct stat st;
        FILE *file = fopen(path, "rbe");
        if (!file)
                return -1;
        if (fstat(fileno(file), &st) == -1 || !S_ISREG(st.st_mode)) {
                fclose(file);
                return 0;
        }
        /* Exactly as large as the input, so that a sanitizer sees the first byte beyond it. */
        size_t size = (size_t)st.st_size;
        uint8_t *data = malloc(size > 0 ? size : 1);
        if (!data || fread(data, 1, size, file) != size) {
                free(data);
                fclose(file);
                return -1;
        }
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
        return 1;
}

static int replay_folder(const char *folder) {
        DIR *dir = opendir(folder);
        int n = 0;

        if (!dir)
                return -1;
        for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
                char path[4096];
                if (e->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
                int r = replay_file(path);
                if (r < 0) {
                        fprintf(stderr, "%s: cannot be read\n", path);
                        closedir(dir);
                        return -1;
                }
                n += r;
        }
        closedir(dir);
        return n;
}

int main(int argc, char **argv) {
        for (int i = 1; i < argc; i++) {
                int n = replay_folder(argv[i]);
                if (n <= 0) {
                        fprintf(stderr, "%s: no corpus there\n", argv[i]);
                        return 1;
                }
                printf("%s: %d inputs\n", argv[i], n);
        }
        return argc < 2;
}
