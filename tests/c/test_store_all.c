/* SPDX-License-Identifier: MIT */
/*
 * Goal: the stores that come with the server do what any store promises.
 * Method: the body of store_test.h, a line per store; the fault store stands for stores that are
 * picky, poor or slow.
 */
#define _GNU_SOURCE
#include "store_test.h"

int
main(void)
{
    static const struct store_case cases[] = {
        {.type = &ovsshm_store_memory, .options = "", .reactors = REACTORS},
        {.type = &ovsshm_store_null, .options = "", .forgets = true},
        {.type = &ovsshm_store_file, .options = "engine=auto", .pool = true},
        {.type = &ovsshm_store_file, .options = "engine=threads", .pool = true},
        {.type = &ovsshm_store_fault, .options = ""},
        {.type = &ovsshm_store_fault, .options = "block-bytes=4096"},
        {.type = &ovsshm_store_fault,
         .options = "without=discard,write-zeroes,block-status,resize,snapshot"},
        {.type = &ovsshm_store_fault, .options = "delay-ms=1", .reactors = REACTORS},
        {.type = &ovsshm_store_fault, .options = "delay-ms=1 inner=file", .pool = true},
        {.type = &ovsshm_store_fault, .options = "inner=file engine=threads", .pool = true},
    };
    test_begin(280);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        run_store_tests(&cases[i]);
    }
    return 0;
}
