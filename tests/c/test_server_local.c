/* SPDX-License-Identifier: MIT */
/*
 * Users of volumes inside of the server's process, beside clients: who may have what open, I/O in
 * the caller's thread, and the end of threads and servers.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>

#include "gate_store.h"
#include "server/local.h"
#include "server_test.h"

#define READ OVSSHM_MODE_READ
#define WRITE OVSSHM_MODE_WRITE

static struct ovsshm_conn *conn;

/* ---- tools ----------------------------------------------------------------------------------- */

static void
start_memory(void)
{
    st_start_memory();
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "vol", 4 * MIB), 0);
}

static void
end(void)
{
    ovsshm_disconnect(conn);
    srv_local_group_end(st.server);
    CHECK_EQ(st_end(SECOND), 0);
}

static struct local *
local_ok(const char *name, uint32_t mode)
{
    struct ovsshm_error error = {.reason = ""};
    struct local *local = NULL;
    int rc = srv_local_open(st.server, name, mode, &local, &error);
    if (rc) {
        fprintf(stderr, "cannot open: %s\n", error.reason);
    }
    CHECK_EQ(rc, 0);
    return local;
}

static struct ovsshm_error why;

static int
local_status(const char *name, uint32_t mode)
{
    struct local *local;
    why.reason[0] = '\0';
    int rc = srv_local_open(st.server, name, mode, &local, &why);
    if (rc == 0) {
        srv_local_close(local);
    }
    return rc;
}

static int
client_status(uint32_t mode)
{
    struct ovsshm_open_params params = {.mode = mode, .arena_bytes = MIB};
    struct ovsshm_volume *volume;
    int rc = ovsshm_open(conn, "vol", &params, &volume);
    if (rc == 0) {
        ovsshm_close(volume);
    }
    return rc;
}

static int64_t
local_run(struct local *local, uint8_t op, uint64_t offset, void *buffer, uint32_t bytes)
{
    struct iovec iov = {buffer, bytes};
    struct local_io io = {
        .op = op,
        .offset_bytes = offset,
        .length_bytes = bytes,
        .iov = &iov,
        .iov_count = buffer != NULL,
    };
    return srv_local_io(local, srv_local_group(st.server), &io);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void
test_volumes_come_and_go(void)
{
    struct ovsshm_volume_info infos[4];
    start_memory();
    CHECK_EQ(srv_local_create(st.server, "a/b", 1000, NULL), 0);
    CHECK_EQ(srv_local_create(st.server, "a/b", 1000, &why), -EEXIST);
    CHECK_TEXT(why.reason, "volume \"a/b\" exists already");
    CHECK_EQ(srv_local_create(st.server, ".openvstorage/x", 0, &why), -EINVAL);
    CHECK_TEXT(why.reason, "reserved");
    CHECK_EQ(srv_local_create(st.server, "huge", 1ull << 63, &why), -EFBIG);
    CHECK_EQ(srv_local_stat(st.server, "a/b", infos), 0);
    CHECK_EQ(infos[0].size_bytes, 1000);
    CHECK_EQ(ovsshm_stat(conn, "a/b", infos), 0);
    CHECK_EQ(infos[0].size_bytes, 512); /* clients have whole sectors */
    CHECK_EQ(srv_local_stat(st.server, "none", infos), -ENOENT);
    CHECK_EQ(srv_local_list(st.server, NULL, infos, 4), 2);
    CHECK_TEXT(infos[0].name, "a/b");
    CHECK_EQ(infos[0].size_bytes, 1000);
    CHECK_EQ(srv_local_list(st.server, "a/b", infos, 4), 1);
    CHECK_EQ(srv_local_remove(st.server, "a/b", NULL), 0);
    CHECK_EQ(srv_local_remove(st.server, "a/b", &why), -ENOENT);
    CHECK_TEXT(why.reason, "volume \"a/b\" does not exist");
    CHECK_EQ(srv_local_open(st.server, "a/b", READ, NULL, &why), -ENOENT);
    end();
}

/* ---- who has it open --------------------------------------------------------------------------
 */

static void
test_one_writer_inside_or_outside(void)
{
    struct ovsshm_volume_info info;
    start_memory();
    struct local *local = local_ok("vol", WRITE);
    CHECK_EQ(client_status(WRITE), -EBUSY);
    CHECK_TEXT(ovsshm_reason(), "volume \"vol\" is open for writing by pid");
    CHECK_TEXT(ovsshm_reason(), "(mount)");
    CHECK_EQ(client_status(READ), 0);
    CHECK_EQ(ovsshm_stat(conn, "vol", &info), 0);
    CHECK_EQ(info.writers, 1);
    CHECK_EQ(ovsshm_remove(conn, "vol"), -EBUSY);
    CHECK_EQ(srv_local_remove(st.server, "vol", &why), -EBUSY);
    srv_local_close(local);

    struct ovsshm_volume *volume = open_ok(conn, "vol", WRITE, 1);
    CHECK_EQ(local_status("vol", WRITE), -EBUSY);
    CHECK_TEXT(why.reason, "open for writing by pid");
    local = local_ok("vol", READ);
    CHECK_EQ(srv_local_set_mode(local, WRITE, &why), -EBUSY);
    CHECK_EQ(ovsshm_volume_set_mode(volume, READ), 0);
    CHECK_EQ(srv_local_set_mode(local, WRITE, &why), 0);
    CHECK_EQ(ovsshm_volume_set_mode(volume, WRITE), -EBUSY);
    CHECK_EQ(srv_local_set_mode(local, READ, &why), 0);
    CHECK_EQ(ovsshm_volume_set_mode(volume, WRITE), 0);
    ovsshm_close(volume);
    srv_local_close(local);
    CHECK_EQ(ovsshm_remove(conn, "vol"), 0);
    end();
}

/* ---- data -------------------------------------------------------------------------------------
 */

static void
test_data_is_shared_with_clients(void)
{
    char out[4096];
    char in[4096];
    start_memory();
    struct local *local = local_ok("vol", WRITE);
    struct ovsshm_volume *volume = open_ok(conn, "vol", READ, 1);
    CHECK_EQ(srv_local_size(local), 4 * MIB);
    CHECK_EQ(srv_local_block_bytes(local), 1);
    memset(out, 'm', sizeof(out));
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 512, out, sizeof(out)), sizeof(out));
    CHECK_EQ(local_run(local, OVSSHM_OP_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, 512, in, sizeof(in)), sizeof(in));
    CHECK(!memcmp(in, out, sizeof(in)));
    CHECK_EQ(local_run(local, OVSSHM_OP_DISCARD, 0, NULL, 4096), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, in, sizeof(in)), sizeof(in));
    CHECK_EQ(in[4095], 0);
    ovsshm_close(volume);
    srv_local_close(local);
    end();
}

int
main(void)
{
    test_begin(240);
    RUN(test_volumes_come_and_go);
    RUN(test_one_writer_inside_or_outside);
    RUN(test_data_is_shared_with_clients);
    return 0;
}
