#include "stages/gateway/ops.h"

int main(int argc, char **argv) {
        return worker_main(&stage_gateway, argc, argv);
}
