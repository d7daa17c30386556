/*
 * millrace-inference: the executable; everything is in inference.c.
 */
#include "stages/inference/inference.h"

int main(int argc, char **argv) {
        return worker_main(&inference_ops, argc, argv);
}
