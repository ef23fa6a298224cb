/* SPDX-License-Identifier: MIT */
/*
 * Users of volumes inside of the server's process, beside a client, for the tests of local.h.
 */
#ifndef LOCAL_TEST_H
#define LOCAL_TEST_H

#include <sched.h>

#include "server/server.h"
#include "server_test.h"

#define READ OVSSHM_MODE_READ
#define WRITE OVSSHM_MODE_WRITE

static struct ovsshm_conn *conn;

/* ---- tools ----------------------------------------------------------------------------------- */

TEST_UNUSED static void
start_memory(void)
{
    st_start_memory();
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "vol", 4 * MIB), 0);
}

TEST_UNUSED static void
end(void)
{
    ovsshm_disconnect(conn);
    srv_local_group_end(st.server);
    CHECK_EQ(st_end(SECOND), 0);
}

TEST_UNUSED static struct local *
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

TEST_UNUSED static int
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

TEST_UNUSED static int
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

TEST_UNUSED static int64_t
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

/* How many volumes have a job that waits for a session to end. */
TEST_UNUSED static void
await_parked(unsigned count)
{
    struct registry *registry = &st.server->registry;
    for (unsigned parked = 0; parked != count; sched_yield()) {
        pthread_mutex_lock(&registry->lock);
        parked = registry->parked;
        pthread_mutex_unlock(&registry->lock);
    }
}

#endif
