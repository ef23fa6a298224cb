/* SPDX-License-Identifier: MIT */
/*
 * The smallest driver that shows the preload works: "ovstiny:" is 1 MiB of 'O', and
 * "ovstiny:environment" refuses to open, saying what of the preload is left in the environment.
 */
#include "qemu/osdep.h" /* QEMU's headers want it first */

#include "block/block_int.h"
#include "qapi/error.h"
#include "qapi/qmp/qdict.h"
#include "qemu/module.h"
#include "qemu/units.h"

static void
tiny_parse_filename(const char *filename, QDict *options, Error **errp)
{
    (void)options;
    if (!strcmp(filename, "ovstiny:environment")) {
        error_setg(errp, "LD_PRELOAD=%s OVS_QEMU_PID=%s", getenv("LD_PRELOAD") ?: "(unset)",
                   getenv("OVS_QEMU_PID") ?: "(unset)");
    }
}

static int
tiny_open(BlockDriverState *bs, QDict *options, int flags, Error **errp)
{
    (void)bs;
    (void)options;
    (void)flags;
    (void)errp;
    return 0;
}

static int64_t
tiny_getlength(BlockDriverState *bs)
{
    (void)bs;
    return 1 * MiB;
}

static int coroutine_fn
tiny_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
               BdrvRequestFlags flags)
{
    (void)bs;
    (void)offset;
    (void)flags;
    qemu_iovec_memset(qiov, 0, 'O', bytes);
    return 0;
}

static BlockDriver tiny = {
    .format_name = "ovstiny",
    .protocol_name = "ovstiny",
    .bdrv_parse_filename = tiny_parse_filename,
    .bdrv_file_open = tiny_open,
    .bdrv_getlength = tiny_getlength,
    .bdrv_co_preadv = tiny_co_preadv,
};

static void
tiny_init(void)
{
    bdrv_register(&tiny);
}

block_init(tiny_init);
