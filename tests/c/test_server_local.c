/* SPDX-License-Identifier: MIT */
/*
 * Users of volumes inside of the server's process, beside clients: names, sizes,
 * who may have what open, and what each hears of the other.
 */
#define _GNU_SOURCE
#include "local_test.h"

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

static int
stat_fails_for_other(struct ovsshm_store *store, const char *name, struct ovsshm_volume_info *info)
{
    return strcmp(name, "other") ? ovsshm_store_memory.volume_stat(store, name, info) : -EIO;
}

/* A store that cannot say whether there is a volume must not lose it. */
static void
test_rename_does_not_replace_the_unknown(void)
{
    struct ovsshm_store_type type = ovsshm_store_memory;
    start_memory();
    CHECK_EQ(srv_local_create(st.server, "other", 512, NULL), 0);
    fill("other", 'o');
    type.volume_stat = stat_fails_for_other;
    st.store->type = &type;
    CHECK_EQ(srv_local_rename(st.server, "vol", "other", false, &why), -EIO);
    CHECK_TEXT(why.reason, "cannot rename volume \"vol\": Input/output error");
    CHECK_EQ(srv_local_rename(st.server, "other", "new", false, &why), -EIO);
    st.store->type = &ovsshm_store_memory;
    CHECK_EQ(first_byte("other"), 'o');
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
    while (ovsshm_volume_event(volume, &event) == 0) {
        sched_yield();
    }
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

/* ---- who goes is waited for --------------------------------------------------------------------
 */

struct opening {
    pthread_t thread;
    int rc;
};

static void *
open_main(void *arg)
{
    struct opening *opening = arg;
    opening->rc = client_status(WRITE);
    return NULL;
}

/* A client that asks while the local is leaving, and waits. */
static struct local *
leave(struct opening *opening)
{
    struct local *local = local_ok("vol", WRITE);
    srv_local_leaving(local, true);
    opening->thread = test_thread(open_main, opening);
    await_parked(1);
    return local;
}

static void
test_who_leaves_is_waited_for(void)
{
    struct opening opening;
    start_memory();
    struct local *local = leave(&opening);
    srv_local_close(local);
    test_join(opening.thread);
    CHECK_EQ(opening.rc, 0);

    local = leave(&opening); /* as well as for who only stops to write */
    CHECK_EQ(srv_local_set_mode(local, READ, &why), 0);
    test_join(opening.thread);
    CHECK_EQ(opening.rc, 0);
    srv_local_close(local);
    end();
}

static void
test_who_stays_after_all_is_in_the_way(void)
{
    struct opening opening;
    char byte;
    start_memory();
    struct local *local = leave(&opening);
    srv_local_leaving(local, false);
    test_join(opening.thread);
    CHECK_EQ(opening.rc, -EBUSY);
    srv_local_close(local);

    local = leave(&opening);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, &byte, 1), 1);
    test_join(opening.thread);
    CHECK_EQ(opening.rc, -EBUSY);
    CHECK_EQ(client_status(WRITE), -EBUSY); /* it is forgotten that it wanted to go */
    srv_local_close(local);

    local = leave(&opening);
    CHECK_EQ(srv_local_set_mode(local, WRITE, &why), 0);
    test_join(opening.thread);
    CHECK_EQ(opening.rc, -EBUSY);
    srv_local_close(local);
    end();
}

static void *
rename_main(void *arg)
{
    struct opening *opening = arg;
    struct ovsshm_error error;
    opening->rc = srv_local_rename(st.server, "vol", "a", true, &error);
    return NULL;
}

/* Both names of a rename may have to wait; closing what it waits for is not in its way. */
static void
test_rename_waits_for_who_leaves(void)
{
    struct opening opening;
    start_memory();
    CHECK_EQ(srv_local_create(st.server, "a", 512, NULL), 0);
    struct local *outer = local_ok("a", READ);
    struct local *inner = local_ok("vol", READ);
    srv_local_leaving(outer, true);
    srv_local_leaving(inner, true);
    opening.thread = test_thread(rename_main, &opening);
    await_parked(1);
    srv_local_close(outer);
    await_parked(1); /* now on the other name */
    srv_local_close(inner);
    test_join(opening.thread);
    CHECK_EQ(opening.rc, 0);
    end();
}

/* ---- races -------------------------------------------------------------------------------------
 */

#define RACES 400

static const char *const race_names[] = {"ra", "rb", "rc"};

static void *
race_rename(void *arg)
{
    unsigned first = *(const unsigned *)arg;
    struct ovsshm_error error;
    for (unsigned i = 0; i < RACES; i++) {
        const char *from = race_names[(first + i) % 3];
        const char *to = race_names[(first + i + 1 + i % 2) % 3];
        int rc = srv_local_rename(st.server, from, to, true, &error);
        CHECK(rc == 0 || rc == -ENOENT || rc == -EBUSY);
    }
    return NULL;
}

static void *
race_open(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < RACES; i++) {
        struct ovsshm_error error;
        struct local *local;
        char byte = 0;
        int rc = srv_local_open(st.server, race_names[i % 3], WRITE, &local, &error);
        CHECK(rc == 0 || rc == -ENOENT || rc == -EBUSY);
        if (rc == 0) {
            CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, &byte, 1), 1);
            CHECK_EQ(byte, 'r');
            srv_local_close(local);
        }
    }
    return NULL;
}

/* Renames in a circle, of what others open: the one volume is never lost, and nobody gets stuck. */
static void
test_renames_race_with_each_other_and_with_opens(void)
{
    const unsigned numbers[] = {0, 1, 2};
    pthread_t threads[5];
    struct ovsshm_volume_info infos[4];
    start_memory();
    CHECK_EQ(srv_local_create(st.server, "ra", 512, NULL), 0);
    fill("ra", 'r');
    for (unsigned i = 0; i < 3; i++) {
        threads[i] = test_thread(race_rename, (void *)(uintptr_t)&numbers[i]);
    }
    threads[3] = test_thread(race_open, NULL);
    threads[4] = test_thread(race_open, NULL);
    for (unsigned i = 0; i < 5; i++) {
        test_join(threads[i]);
    }
    CHECK_EQ(srv_local_list(st.server, NULL, infos, 4), 2);
    CHECK_EQ(infos[0].name[0], 'r');
    CHECK_EQ(first_byte(infos[0].name), 'r');
    end();
}

/* ---- what clients do is told -------------------------------------------------------------------
 */

static struct {
    char name[OVSSHM_NAME_BYTES];
    unsigned counts[4]; /* atomic; by event */
} told;

static void
changed(void *arg, const char *name, enum srv_local_event event)
{
    CHECK(arg == &told);
    CHECK_EQ(strcmp(name, told.name), 0);
    ovsshm_add(&told.counts[event], 1);
}

static void
await_told(enum srv_local_event event, unsigned count)
{
    while (ovsshm_load_acquire(&told.counts[event]) != count) {
        sched_yield();
    }
}

static void
test_watch_hears_of_clients_only(void)
{
    start_memory();
    strcpy(told.name, "w");
    srv_local_watch(st.server, changed, &told);
    CHECK_EQ(ovsshm_create(conn, "w", MIB), 0);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_CREATED]), 1);
    CHECK_EQ(ovsshm_create(conn, "w", MIB), -EEXIST);
    CHECK_EQ(ovsshm_resize(conn, "w", 2 * MIB), 0);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_RESIZED]), 1);
    CHECK_EQ(ovsshm_snapshot_create(conn, "w", "s", 0), 0);
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "w", "s"), 0);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_CHANGED]), 1);
    ovsshm_close(open_ok(conn, "w", READ, 1));
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_CHANGED]), 1);
    struct ovsshm_volume *volume = open_ok(conn, "w", WRITE, 1);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_CHANGED]), 2);
    CHECK_EQ(ovsshm_volume_set_mode(volume, READ), 0);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_CHANGED]), 3);
    CHECK_EQ(ovsshm_volume_set_mode(volume, WRITE), 0);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_CHANGED]), 4);
    ovsshm_close(volume);
    await_told(SRV_LOCAL_CHANGED, 5);
    CHECK_EQ(ovsshm_remove(conn, "w"), 0);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_REMOVED]), 1);

    CHECK_EQ(srv_local_create(st.server, "w", MIB, NULL), 0);
    CHECK_EQ(srv_local_truncate(st.server, "w", 5, NULL), 0);
    fill("w", 'w');
    CHECK_EQ(srv_local_rename(st.server, "w", "x", false, NULL), 0);
    srv_local_watch(st.server, NULL, NULL);
    CHECK_EQ(ovsshm_remove(conn, "vol"), 0); /* not told any more: this is not "w" */
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_CREATED]), 1);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_RESIZED]), 1);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_CHANGED]), 5);
    CHECK_EQ(ovsshm_load_acquire(&told.counts[SRV_LOCAL_REMOVED]), 1);
    end();
}

static void
test_a_local_is_a_session(void)
{
    struct ovsshm_session_info infos[2];
    char data[1000];
    start_memory();
    struct local *local = local_ok("vol", WRITE);
    CHECK_EQ(st_status().sessions, 1);
    memset(data, 'd', sizeof(data));
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 0, data, 1000), 1000);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, data, 10), 10);
    CHECK_EQ(local_run(local, OVSSHM_OP_READ, 0, data, 20), 20);
    CHECK_EQ(local_run(local, OVSSHM_OP_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(local_run(local, OVSSHM_OP_WRITE, 4 * MIB, data, 1), -EFBIG);
    CHECK_EQ(ovsshm_sessions(conn, 0, infos, 2), 1);
    CHECK(!strcmp(infos[0].client, "mount"));
    CHECK(!strcmp(infos[0].volume, "vol"));
    CHECK_EQ(infos[0].pid, getpid());
    CHECK_EQ(infos[0].mode, OVSSHM_MODE_WRITE);
    CHECK_EQ(infos[0].queues, 0);
    CHECK_EQ(infos[0].in_flight, 0);
    CHECK_EQ(infos[0].reads, 2);
    CHECK_EQ(infos[0].read_bytes, 30);
    CHECK_EQ(infos[0].writes, 2);
    CHECK_EQ(infos[0].written_bytes, 1000);
    CHECK_EQ(infos[0].others, 1);
    CHECK_EQ(infos[0].errors, 1);
    CHECK(infos[0].latency_ns > 0);
    srv_local_close(local);
    CHECK_EQ(ovsshm_sessions(conn, 0, infos, 2), 0);
    CHECK_EQ(st_status().sessions, 0);
    CHECK_EQ(st_status().requests, 5);
    CHECK_EQ(st_status().written_bytes, 1000);
    end();
}

int
main(void)
{
    test_begin(240);
    RUN(test_volumes_come_and_go);
    RUN(test_rename_moves_and_replaces);
    RUN(test_rename_does_not_replace_the_unknown);
    RUN(test_rename_of_what_is_open_is_refused);
    RUN(test_truncate_to_the_byte);
    RUN(test_truncate_and_rollback_go_together);
    RUN(test_one_writer_inside_or_outside);
    RUN(test_who_leaves_is_waited_for);
    RUN(test_who_stays_after_all_is_in_the_way);
    RUN(test_rename_waits_for_who_leaves);
    RUN(test_renames_race_with_each_other_and_with_opens);
    RUN(test_watch_hears_of_clients_only);
    RUN(test_a_local_is_a_session);
    return 0;
}
