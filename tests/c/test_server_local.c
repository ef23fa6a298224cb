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

static void
fill(const char *name, char byte)
{
    struct local *local = local_ok(name, WRITE);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 0, (char[]){byte}, 1), 1);
    srv_local_close(local);
}

static char
first_byte(const char *name)
{
    char byte = 0;
    struct local *local = local_ok(name, READ);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, &byte, 1), 1);
    srv_local_close(local);
    return byte;
}

static void
test_rename_moves_and_replaces(void)
{
    struct ovsshm_volume_info info;
    struct ovsshm_snapshot_info snapshot;
    start_memory();
    CHECK_EQ(srv_local_create(st.server, "other", 1000, NULL), 0);
    fill("vol", 'v');
    fill("other", 'o');
    CHECK_EQ(ovsshm_snapshot_create(conn, "vol", "of vol", 0), 0);
    CHECK_EQ(ovsshm_snapshot_create(conn, "other", "of other", 0), 0);
    CHECK_EQ(srv_local_rename(st.server, "vol", "other", false, &why), -EEXIST);
    CHECK_TEXT(why.reason, "volume \"other\" exists already");
    CHECK_EQ(srv_local_rename(st.server, "none", "other", true, &why), -ENOENT);
    CHECK_TEXT(why.reason, "volume \"none\" does not exist");
    CHECK_EQ(srv_local_rename(st.server, "vol", "../vol", true, &why), -EINVAL);
    CHECK_EQ(srv_local_rename(st.server, ".openvstorage/x", "vol", true, &why), -EINVAL);
    CHECK_EQ(srv_local_rename(st.server, "vol", "vol", true, &why), 0);
    CHECK_EQ(srv_local_rename(st.server, "vol", "vol", false, &why), -EEXIST);
    CHECK_EQ(srv_local_rename(st.server, "none", "none", true, &why), -ENOENT);

    CHECK_EQ(srv_local_rename(st.server, "vol", "other", true, &why), 0);
    CHECK_EQ(srv_local_stat(st.server, "vol", &info), -ENOENT);
    CHECK_EQ(first_byte("other"), 'v');
    CHECK_EQ(ovsshm_snapshot_list(conn, "other", NULL, &snapshot, 1), 1);
    CHECK_TEXT(snapshot.name, "of vol");
    CHECK_EQ(srv_local_rename(st.server, "other", "a/new", false, &why), 0);
    CHECK_EQ(first_byte("a/new"), 'v');
    CHECK_EQ(ovsshm_list(conn, NULL, &info, 1), 1);
    CHECK_TEXT(info.name, "a/new");
    end();
}

static void
test_rename_of_what_is_open_is_refused(void)
{
    start_memory();
    CHECK_EQ(srv_local_create(st.server, "a", 512, NULL), 0);
    CHECK_EQ(srv_local_create(st.server, "z", 512, NULL), 0);
    struct ovsshm_volume *volume = open_ok(conn, "vol", READ, 1);
    const char *const others[] = {"a", "z"};
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(srv_local_rename(st.server, "vol", others[i], true, &why), -EBUSY);
        CHECK_TEXT(why.reason, "volume \"vol\" is open by pid");
        CHECK_EQ(srv_local_rename(st.server, others[i], "vol", true, &why), -EBUSY);
        CHECK_TEXT(why.reason, "volume \"vol\" is open by pid");
    }
    ovsshm_close(volume);
    CHECK_EQ(srv_local_rename(st.server, "vol", "a", true, &why), 0);
    end();
}

static void
test_truncate_to_the_byte(void)
{
    struct ovsshm_volume_info info;
    struct ovsshm_msg_event event;
    char data[1024];
    start_memory();
    CHECK_EQ(srv_local_truncate(st.server, "none", 1, &why), -ENOENT);
    CHECK_EQ(srv_local_truncate(st.server, "vol", 1ull << 63, &why), -EFBIG);
    struct local *local = local_ok("vol", WRITE);
    CHECK_EQ(srv_local_truncate(st.server, "vol", 3, &why), 0);
    CHECK_EQ(srv_local_size(local), 3);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 0, (char[]){"hello"}, 5), -EFBIG);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 0, (char[]){"hi\n"}, 3), 3);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, data, sizeof(data)), 3);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 3, data, sizeof(data)), 0);
    CHECK_EQ(srv_local_truncate(st.server, "vol", 1, &why), 0);
    CHECK_EQ(srv_local_truncate(st.server, "vol", 1000, &why), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, data, sizeof(data)), 1000);
    CHECK_EQ(data[0], 'h');
    CHECK_EQ(data[1], 0);
    CHECK_EQ(ovsshm_stat(conn, "vol", &info), 0);
    CHECK_EQ(info.size_bytes, 512);

    /* Beside a client it may grow, and shrink only what clients do not see. */
    struct ovsshm_volume *volume = open_ok(conn, "vol", READ, 1);
    CHECK_EQ(ovsshm_volume_bytes(volume), 512);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, 0, data, 512), 512);
    CHECK_EQ(srv_local_truncate(st.server, "vol", 600, &why), 0);
    CHECK_EQ(srv_local_truncate(st.server, "vol", 511, &why), -EBUSY);
    CHECK_TEXT(why.reason, "volume \"vol\" is open by pid");
    CHECK_EQ(srv_local_truncate(st.server, "vol", 5000, &why), 0);
    CHECK_EQ(ovsshm_volume_bytes(volume), 4608);
    CHECK_EQ(srv_local_size(local), 5000);
    CHECK_EQ(ovsshm_status(conn, &(struct ovsshm_status){0}), 0); /* the event is out by now */
    CHECK_EQ(ovsshm_volume_event(volume, &event), 1);
    CHECK_EQ(event.event, OVSSHM_EVENT_RESIZED);
    CHECK_EQ(ovsshm_resize(conn, "vol", 4608), 0); /* what it has as they see it */
    CHECK_EQ(srv_local_size(local), 5000);
    CHECK_EQ(ovsshm_resize(conn, "vol", MIB), 0);
    CHECK_EQ(srv_local_size(local), MIB);
    ovsshm_close(volume);
    srv_local_close(local);
    CHECK_EQ(srv_local_truncate(st.server, "vol", 7, &why), 0);
    CHECK_EQ(srv_local_stat(st.server, "vol", &info), 0);
    CHECK_EQ(info.size_bytes, 7);
    end();
}

/* Whatever sizes it has had, the memory store finds its data again. */
static void
test_truncate_and_rollback_go_together(void)
{
    char in[64];
    start_memory();
    fill("vol", 's');
    CHECK_EQ(ovsshm_snapshot_create(conn, "vol", "s", 0), 0);
    CHECK_EQ(srv_local_truncate(st.server, "vol", 0, &why), 0);
    struct local *local = local_ok("vol", WRITE);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, in, 64), 0);
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "vol", "s"), 0);
    CHECK_EQ(srv_local_size(local), 4 * MIB);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, in, 64), 64);
    CHECK_EQ(in[0], 's');
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 4 * MIB - 64, in, 64), 64);
    srv_local_close(local);
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
    RUN(test_rename_moves_and_replaces);
    RUN(test_rename_of_what_is_open_is_refused);
    RUN(test_truncate_to_the_byte);
    RUN(test_truncate_and_rollback_go_together);
    RUN(test_one_writer_inside_or_outside);
    RUN(test_data_is_shared_with_clients);
    return 0;
}
