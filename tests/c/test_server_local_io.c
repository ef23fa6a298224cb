/* SPDX-License-Identifier: MIT */
/*
 * I/O of users inside of the server's process: in the caller's thread, through a store group of
 * its own, beside pauses, late completions and stores that keep memory.
 */
#define _GNU_SOURCE
#include "local_gate.h"

/* ---- data -------------------------------------------------------------------------------------
 */

static void
test_data_is_shared_with_clients(void)
{
    char out[4096];
    char in[4096];
    start_memory();
    struct local *local = local_ok("vol", WRITE);
    CHECK_EQ(srv_local_size(local), 4 * MIB);
    CHECK_EQ(srv_local_block_bytes(local), 1);
    memset(out, 'm', sizeof(out));
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 512, out, sizeof(out)), sizeof(out));
    CHECK_EQ(local_run(local, OVSSHM_OP_FLUSH, 0, NULL, 0), 0);
    /* After the write: TSan does not see that a ring orders accesses. */
    struct ovsshm_volume *volume = open_ok(conn, "vol", READ, 1);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, 512, in, sizeof(in)), sizeof(in));
    CHECK(!memcmp(in, out, sizeof(in)));
    CHECK_EQ(local_run(local, OVSSHM_OP_DISCARD, 0, NULL, 4096), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, in, sizeof(in)), sizeof(in));
    CHECK_EQ(in[4095], 0);
    ovsshm_close(volume);
    srv_local_close(local);
    end();
}

static void
test_requests_are_checked(void)
{
    char data[512] = "x";
    struct local_io io = {.op = 200};
    start_memory();
    struct local *local = local_ok("vol", READ);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 0, data, 512), -EBADF);
    CHECK_EQ(local_run(local, OVSSHM_OP_DISCARD, 0, NULL, 512), -EBADF);
    CHECK_EQ(srv_local_io(local, srv_local_group(st.server), &io), -EINVAL);
    io = (struct local_io){.op = OVSSHM_OP_READ, .flags = OVSSHM_SQE_FUA};
    CHECK_EQ(srv_local_io(local, srv_local_group(st.server), &io), -EINVAL);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 4 * MIB, data, 512), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, UINT64_MAX, data, 512), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, data, 0), 0);
    CHECK_EQ(srv_local_set_mode(local, WRITE, NULL), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 4 * MIB - 511, data, 512), -EFBIG);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, UINT64_MAX, data, 512), -EFBIG);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE_ZEROES, 0, NULL, 2000000000), -EINVAL);
    srv_local_close(local);
    end();
}

static void
test_block_status_into_callers_memory(void)
{
    struct ovsshm_extent extents[2];
    char data[4096] = "x";
    struct local_io io = {.op = OVSSHM_OP_BLOCK_STATUS,
                          .length_bytes = 4 * MIB,
                          .extents = extents,
                          .extents_max = 2};
    start_memory();
    struct local *local = local_ok("vol", WRITE);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, MIB, data, sizeof(data)), sizeof(data));
    CHECK_EQ(srv_local_io(local, srv_local_group(st.server), &io), 2);
    CHECK_EQ(extents[0].length_bytes, MIB);
    CHECK(extents[0].flags & OVSSHM_EXTENT_ZERO);
    CHECK_EQ(extents[1].length_bytes, sizeof(data));
    srv_local_close(local);
    end();
}

static void
test_blocks_of_the_store(void)
{
    char data[8192] = "x";
    st_start(st_store(&ovsshm_store_fault, "block-bytes=4096", NULL),
             (struct ovsshm_server_params){0});
    conn = connect_ok();
    CHECK_EQ(srv_local_create(st.server, "vol", 8192 + 100, NULL), 0);
    struct local *local = local_ok("vol", WRITE);
    CHECK_EQ(srv_local_block_bytes(local), 4096);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 512, data, 4096), -EINVAL);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 0, data, 512), -EINVAL);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 4096, data, 4096), 4096);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 8192, data, 100), 100); /* to the end */
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 8192, data, 4096), 100);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 8192, data, 100), 100);
    srv_local_close(local);
    end();
}

/* ---- late completions ------------------------------------------------------------------------ */

static void
test_another_thread_completes(void)
{
    struct writing writings[4];
    start_gate();
    struct local *local = local_ok("vol", WRITE);
    gate_close();
    for (unsigned i = 0; i < 4; i++) {
        writing_begin(&writings[i], local, 'a');
    }
    gate_await(4);
    CHECK_EQ(srv_local_in_flight(st.server, NULL), 4);
    gate_release(3);
    gate_fail_io(-ENOSPC);
    gate_open();
    unsigned failures = 0;
    for (unsigned i = 0; i < 4; i++) {
        test_join(writings[i].thread);
        failures += writings[i].result == -ENOSPC;
        CHECK(writings[i].result == 1 || writings[i].result == -ENOSPC);
    }
    CHECK_EQ(failures, 1);
    gate_fail_io(0);
    srv_local_close(local);
    end();
}

static void *
delayed_main(void *arg)
{
    char data[512];
    for (unsigned i = 0; i < 20; i++) {
        memset(data, (int)i, sizeof(data));
        CHECK_EQ(local_run(arg, OVSSHM_OP_WRITE, 512 * i, data, 512), 512);
        CHECK_EQ(local_run(arg, OVSSHM_OP_READ, 512 * i, data, 512), 512);
    }
    return NULL;
}

/* Of the delay line's thread, as fast as it can: request and completion race all the time. */
static void
test_late_completions_of_many_threads(void)
{
    pthread_t threads[4];
    st_start(st_store(&ovsshm_store_fault, "delay-ms=1", NULL), (struct ovsshm_server_params){0});
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "vol", 4 * MIB), 0);
    struct local *local = local_ok("vol", WRITE);
    for (unsigned i = 0; i < 4; i++) {
        threads[i] = test_thread(delayed_main, local);
    }
    for (unsigned i = 0; i < 4; i++) {
        test_join(threads[i]);
    }
    srv_local_close(local);
    end();
}

/* ---- engines of the file store -----------------------------------------------------------------
 */

static void
run_file(const char *options)
{
    static char data[MIB];
    char *pool = test_path("pool");
    CHECK(mkdir(pool, 0700) == 0 || errno == EEXIST);
    st_start(st_store(&ovsshm_store_file, options, pool), (struct ovsshm_server_params){0});
    conn = connect_ok();
    CHECK_EQ(srv_local_create(st.server, "vol", MIB + 5, NULL), 0);
    struct local *local = local_ok("vol", WRITE);
    memset(data, 'f', sizeof(data));
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 0, data, MIB), MIB); /* by the engine */
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, MIB, data, 5), 5);
    CHECK_EQ(local_run(local, OVSSHM_OP_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE_ZEROES, 4096, NULL, 4096), 0);
    CHECK_EQ(srv_local_truncate(st.server, "vol", MIB + 1, NULL), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, data, MIB), MIB);
    CHECK_EQ(data[4095], 'f');
    CHECK_EQ(data[4096], 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, MIB, data, 4096), 1);
    srv_local_close(local);
    CHECK_EQ(srv_local_remove(st.server, "vol", NULL), 0);
    end();
    free(pool);
}

static void
test_engines_of_the_file_store(void)
{
    run_file("engine=threads");
    run_file("engine=auto");
}

/* ---- pauses -------------------------------------------------------------------------------------
 */

static unsigned
count_held(void)
{
    pthread_mutex_lock(&gate.lock);
    unsigned count = gate.held_count;
    pthread_mutex_unlock(&gate.lock);
    return count;
}

static void
test_pause_waits_for_io_and_holds_up_the_next(void)
{
    struct snapshotting call = {.rc = 1};
    struct writing first;
    struct writing second;
    start_gate();
    struct local *local = local_ok("vol", WRITE);
    gate_close();
    writing_begin(&first, local, 'a');
    gate_await(1);
    call.thread = test_thread(snapshot_main, &call);
    while (!ovsshm_load_acquire(&local->session.volume->held)) {
        sched_yield();
    }
    writing_begin(&second, local, 'b');
    await_blocked(&second);
    CHECK_EQ(count_held(), 1); /* the second has not come through */
    CHECK_EQ(ovsshm_load_acquire(&call.rc), 1);
    gate_open();
    test_join(call.thread);
    CHECK_EQ(call.rc, 0);
    test_join(first.thread);
    test_join(second.thread);
    CHECK_EQ(first.result, 1);
    CHECK_EQ(second.result, 1);
    srv_local_close(local);
    end();
}

/* Each snapshot is one moment of the volume, also when the mount writes meanwhile. */
static void *
count_up(void *arg)
{
    for (uint64_t i = 1; i < 4000; i++) {
        CHECK_EQ(local_run(arg, OVSSHM_OP_WRITE, 0, &i, sizeof(i)), sizeof(i));
        CHECK_EQ(local_run(arg, OVSSHM_OP_WRITE, 2 * MIB, &i, sizeof(i)), sizeof(i));
    }
    return NULL;
}

static void
test_snapshots_and_rollbacks_during_io(void)
{
    uint64_t first, second;
    char name[16];
    start_memory();
    struct local *local = local_ok("vol", WRITE);
    pthread_t thread = test_thread(count_up, local);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        CHECK_EQ(ovsshm_snapshot_create(conn, "vol", name, 0), 0);
    }
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "vol", "s9"), 0); /* in the middle of it */
    test_join(thread);
    for (int i = 9; i >= 0; i--) {
        snprintf(name, sizeof(name), "s%d", i);
        CHECK_EQ(ovsshm_snapshot_rollback(conn, "vol", name), 0);
        CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, &first, 8), 8);
        CHECK_EQ(local_run(local, OVSSHM_OP_READ, 2 * MIB, &second, 8), 8);
        CHECK(first == second || first == second + 1);
    }
    srv_local_close(local);
    end();
}

struct resizing {
    pthread_t thread;
    uint32_t stop; /* atomic */
};

static void *
resize_main(void *arg)
{
    struct resizing *resizing = arg;
    for (uint64_t i = 0; !ovsshm_load_acquire(&resizing->stop); i++) {
        CHECK_EQ(srv_local_truncate(st.server, "vol", i % 2 ? 100 : 3 * MIB + 7, NULL), 0);
    }
    return NULL;
}

/* What shrinks under I/O cuts reads short and refuses writes, at one moment or the other. */
static void
test_shrinking_during_io(void)
{
    struct resizing resizing = {.stop = 0};
    char data[512] = "x";
    start_memory();
    struct local *local = local_ok("vol", WRITE);
    resizing.thread = test_thread(resize_main, &resizing);
    for (unsigned i = 0; i < 2000; i++) {
        int64_t got = local_run(local, OVSSHM_OP_READ, 3 * MIB - 512, data, 512);
        CHECK(got == 512 || got == 0);
        got = local_run(local, OVSSHM_OP_WRITE, 3 * MIB - 512, data, 512);
        CHECK(got == 512 || got == -EFBIG);
    }
    ovsshm_store_release(&resizing.stop, 1);
    test_join(resizing.thread);
    srv_local_close(local);
    end();
}

/* ---- threads and their groups -------------------------------------------------------------------
 */

static struct {
    uint32_t made;    /* atomic */
    uint32_t ended;   /* atomic */
    uint32_t strange; /* atomic: ended by another thread */
} groups;

static int
count_create(struct ovsshm_store *store, void **group)
{
    (void)store;
    pthread_t *thread = malloc(sizeof(*thread));
    *thread = pthread_self();
    *group = thread;
    ovsshm_add(&groups.made, 1);
    return 0;
}

static void
count_destroy(void *group)
{
    ovsshm_add(&groups.strange, !pthread_equal(*(pthread_t *)group, pthread_self()));
    ovsshm_add(&groups.ended, 1);
    free(group);
}

static void
count_submit(struct ovsshm_store *store, void *group, struct ovsshm_request **requests,
             unsigned count)
{
    CHECK(pthread_equal(*(pthread_t *)group, pthread_self()));
    gate_submit(store, NULL, requests, count);
}

static void *
group_main(void *arg)
{
    char byte = 'g';
    struct local_group *group = srv_local_group(st.server);
    CHECK(group && group != *(struct local_group **)arg);
    CHECK(srv_local_group(st.server) == group);
    struct local *local = local_ok("vol", READ);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, &byte, 1), 1);
    srv_local_close(local);
    return NULL;
}

static void
test_every_thread_has_its_group(void)
{
    struct ovsshm_store_type counting = gate_store;
    memset(&groups, 0, sizeof(groups));
    counting.group_create = count_create;
    counting.group_destroy = count_destroy;
    counting.submit = count_submit;
    start_gate_as(&counting);
    struct local_group *group = srv_local_group(st.server);
    for (unsigned i = 0; i < 5; i++) {
        test_join(test_thread(group_main, &group));
        CHECK_EQ(ovsshm_load_acquire(&groups.ended), i + 1); /* with its thread */
    }
    CHECK_EQ(ovsshm_load_acquire(&groups.made), 7); /* a reactor and six threads */
    srv_local_group_end(st.server);
    CHECK_EQ(ovsshm_load_acquire(&groups.ended), 6);
    CHECK(srv_local_group(st.server)); /* again */
    end();
    CHECK_EQ(groups.ended, 8);
    CHECK_EQ(groups.strange, 0);
}

static int
refuse_group(struct ovsshm_store *store, void **group)
{
    static uint32_t calls;
    return ovsshm_add(&calls, 1) == 1 ? gate_group_create(store, group) : -EMFILE; /* a reactor's */
}

static void
test_stores_without_groups(void)
{
    char byte;
    struct ovsshm_store_type type = gate_store;
    type.group_create = NULL;
    type.group_destroy = NULL;
    start_gate_as(&type);
    struct local *local = local_ok("vol", READ);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, &byte, 1), 1);
    srv_local_close(local);
    end();

    type = gate_store;
    type.group_create = refuse_group;
    start_gate_as(&type);
    CHECK(!srv_local_group(st.server));
    end();
}

/* ---- memory -------------------------------------------------------------------------------------
 */

static void
test_scratch_memory_is_kept(void)
{
    start_memory();
    struct local_group *group = srv_local_group(st.server);
    char *first = srv_local_buffer(group, 8192);
    CHECK(first && (uintptr_t)first % OVSSHM_PAGE_BYTES == 0);
    CHECK(srv_local_buffer(group, 1) == first);
    char *second = srv_local_buffer(group, MIB);
    memset(second, 1, MIB);
    CHECK(srv_local_buffer(group, 8192) == second);
    end();
}

static struct {
    struct ovsshm_memory *memory;
    unsigned char *data;
} kept;

/* Keeps the memory of every request. */
static void
keep_submit(struct ovsshm_store *store, void *group, struct ovsshm_request **requests,
            unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        kept.data = requests[i]->iov[0].iov_base;
        kept.memory = ovsshm_request_hold(requests[i]);
    }
    gate_submit(store, group, requests, count);
}

static void
test_store_keeps_memory(void)
{
    static char foreign[100];
    struct ovsshm_store_type keeping = gate_store;
    keeping.flags = OVSSHM_STORE_HOLDS;
    keeping.submit = keep_submit;
    start_gate_as(&keeping);
    struct local *local = local_ok("vol", WRITE);
    struct local_group *group = srv_local_group(st.server);

    char *mine = srv_local_buffer(group, 4096); /* goes to the store as it is */
    memset(mine, 'm', 4096);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 0, mine, 4096), 4096);
    CHECK(kept.data == (unsigned char *)mine);
    char *next = srv_local_buffer(group, 4096);
    CHECK(next != mine); /* that one is the store's now */
    memset(next, 'n', 4096);
    CHECK_EQ(kept.data[4095], 'm');
    ovsshm_memory_release(kept.memory);

    memset(foreign, 'f', sizeof(foreign)); /* is copied */
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 50, foreign, sizeof(foreign)), sizeof(foreign));
    CHECK(kept.data != (unsigned char *)foreign);
    CHECK_EQ(kept.data[99], 'f');
    struct ovsshm_memory *write = kept.memory;
    memset(foreign, 0, sizeof(foreign));
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 49, foreign, sizeof(foreign)), sizeof(foreign));
    CHECK_EQ(foreign[0], 'm');
    CHECK_EQ(foreign[99], 'f');
    ovsshm_memory_release(write);
    srv_local_close(local);
    srv_local_group_end(st.server); /* and beyond the thread's group */
    CHECK_EQ(kept.data[0], 'm');
    ovsshm_memory_release(kept.memory);
    end();
}

int
main(void)
{
    test_begin(240);
    RUN(test_data_is_shared_with_clients);
    RUN(test_requests_are_checked);
    RUN(test_block_status_into_callers_memory);
    RUN(test_blocks_of_the_store);
    RUN(test_another_thread_completes);
    RUN(test_late_completions_of_many_threads);
    RUN(test_engines_of_the_file_store);
    RUN(test_pause_waits_for_io_and_holds_up_the_next);
    RUN(test_snapshots_and_rollbacks_during_io);
    RUN(test_shrinking_during_io);
    RUN(test_every_thread_has_its_group);
    RUN(test_stores_without_groups);
    RUN(test_scratch_memory_is_kept);
    RUN(test_store_keeps_memory);
    return 0;
}
