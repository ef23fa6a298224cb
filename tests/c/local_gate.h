/* SPDX-License-Identifier: MIT */
/*
 * Users of volumes inside of the server's process whose requests wait at a gate.
 */
#ifndef LOCAL_GATE_H
#define LOCAL_GATE_H

#include "gate_store.h"
#include "local_test.h"

TEST_UNUSED static void
start_gate_as(const struct ovsshm_store_type *type)
{
    struct ovsshm_store *store;
    CHECK_EQ(gate_create(NULL, &store, NULL), 0);
    store->type = type;
    st_start(store, (struct ovsshm_server_params){.reactors = 1});
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "vol", 4 * MIB), 0);
}

TEST_UNUSED static void
start_gate(void)
{
    start_gate_as(&gate_store);
}

/* A thread that does one write of its own. */
struct writing {
    pthread_t thread;
    struct local *local;
    struct local_group *group; /* atomic: the thread's */
    char byte;
    int64_t result;
};

TEST_UNUSED static void *
write_main(void *arg)
{
    struct writing *writing = arg;
    ovsshm_store_release(&writing->group, srv_local_group(st.server));
    writing->result = local_run(writing->local, OVSSHM_OP_WRITE, 0, &writing->byte, 1);
    return NULL;
}

TEST_UNUSED static void
writing_begin(struct writing *writing, struct local *local, char byte)
{
    *writing = (struct writing){.local = local, .byte = byte};
    writing->thread = test_thread(write_main, writing);
}

struct snapshotting {
    pthread_t thread;
    int rc; /* atomic */
};

TEST_UNUSED static void *
snapshot_main(void *arg)
{
    struct snapshotting *call = arg;
    struct ovsshm_conn *own = connect_ok();
    ovsshm_store_release(&call->rc, ovsshm_snapshot_create(own, "vol", "snap", 0));
    ovsshm_disconnect(own);
    return NULL;
}

/* Until its I/O waits for a pause to end. */
TEST_UNUSED static void
await_blocked(struct writing *writing)
{
    struct local_group *group;
    while (!(group = ovsshm_load_acquire(&writing->group)) ||
           !ovsshm_load_relaxed(&group->blocked)) {
        sched_yield();
    }
}

#endif
