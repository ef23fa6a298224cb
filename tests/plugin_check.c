/* SPDX-License-Identifier: MIT */
/*
 * What every store promises, of a store in a shared object:
 *
 *     plugin_check PATH.so REACTORS ["KEY=VALUE KEY=VALUE"]
 */
#define _GNU_SOURCE
#include "store_test.h"

int
main(int argc, char **argv)
{
    struct ovsshm_error error = {.reason = ""};
    struct store_case plugged = {.options = argc > 3 ? argv[3] : ""};
    test_begin(240);
    CHECK(argc == 3 || argc == 4);
    int rc = ovsshm_store_load(argv[1], &plugged.type, &error);
    if (rc) {
        fprintf(stderr, "%s\n", error.reason);
    }
    CHECK_EQ(rc, 0);
    plugged.reactors = (uint32_t)atoi(argv[2]);
    run_store_tests(&plugged);
    return 0;
}
