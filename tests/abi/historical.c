/* SPDX-License-Identifier: MIT */
/* A program of the old days: it knows <openvstorage/volumedriver.h> and nothing else of ours. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <openvstorage/volumedriver.h>

static int
failed(const char *what)
{
    perror(what);
    return 1;
}

static int
use(ovs_ctx_t *ctx)
{
    struct stat st;
    char bytes[13];
    if (ovs_create_volume(ctx, "old/program", 1048576) < 0) {
        return failed("create");
    }
    if (ovs_ctx_init(ctx, "old/program", O_RDWR) < 0) {
        return failed("open");
    }
    if (ovs_write(ctx, "thirteen char", 13, 1024) != 13 || ovs_flush(ctx) < 0) {
        return failed("write");
    }
    if (ovs_read(ctx, bytes, 13, 1024) != 13 || memcmp(bytes, "thirteen char", 13)) {
        return failed("read");
    }
    if (ovs_stat(ctx, &st) < 0 || st.st_size != 1048576 || st.st_blksize != 512) {
        return failed("stat");
    }
    return 0;
}

int
main(void)
{
    ovs_ctx_attr_t *attr = ovs_ctx_attr_new();
    if (!attr || ovs_ctx_attr_set_transport(attr, "shm", NULL, 0) < 0) {
        return failed("attributes");
    }
    ovs_ctx_t *ctx = ovs_ctx_new(attr);
    ovs_ctx_attr_destroy(attr);
    if (!ctx) {
        return failed("context");
    }
    int rc = use(ctx);
    ovs_ctx_destroy(ctx);
    if (rc == 0) {
        puts("works");
    }
    return rc;
}
