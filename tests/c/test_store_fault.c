/* SPDX-License-Identifier: MIT */
/*
 * Goal: the fault store fails what it was told to, when, and nothing else; stores name bad options;
 * a store can come from a shared object.
 * Method: a server per set of options; a shared object compiled here.
 */
#define _GNU_SOURCE
#include "server_test.h"

static struct ovsshm_conn *conn;
static struct ovsshm_volume *volume;
static char data[4096];

static void
begin(const char *options)
{
    st_start(st_store(&ovsshm_store_fault, options, NULL), (struct ovsshm_server_params){0});
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "v", MIB), 0);
    volume = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
}

static void
end(int stop_status)
{
    int rc = ovsshm_server_stop(st.server, SECOND / 10);
    CHECK_EQ(rc, stop_status);
    ovsshm_close(volume);
    ovsshm_disconnect(conn);
    CHECK_EQ(st_end(0), 0);
}

static int64_t
io(uint8_t op)
{
    bool transfer = op == OVSSHM_OP_READ || op == OVSSHM_OP_WRITE;
    return run(volume, op, 0, transfer ? data : NULL, op == OVSSHM_OP_FLUSH ? 0 : sizeof(data));
}

static void
test_error_hits_the_ops_named(void)
{
    begin("error=ENOSPC error-op=write,discard");
    CHECK_EQ(io(OVSSHM_OP_WRITE), -ENOSPC);
    CHECK_EQ(io(OVSSHM_OP_DISCARD), -ENOSPC);
    CHECK_EQ(io(OVSSHM_OP_READ), sizeof(data));
    CHECK_EQ(io(OVSSHM_OP_FLUSH), 0);
    CHECK_EQ(st_status().errors, 2);
    end(0);
    begin("error=EIO error-op=flush");
    CHECK_EQ(io(OVSSHM_OP_FLUSH), -EIO);
    CHECK_EQ(io(OVSSHM_OP_WRITE), sizeof(data));
    end(0);
}

static void
test_error_begins_late_and_ends(void)
{
    begin("error=EIO error-op=write error-after=3 error-count=2");
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(io(OVSSHM_OP_WRITE), i == 3 || i == 4 ? -EIO : (int)sizeof(data));
        CHECK_EQ(io(OVSSHM_OP_READ), sizeof(data));
    }
    end(0);
}

static void
test_error_with_delay_comes_from_another_thread(void)
{
    begin("error=EIO error-op=write delay-ms=2");
    CHECK_EQ(io(OVSSHM_OP_WRITE), -EIO);
    CHECK_EQ(io(OVSSHM_OP_READ), sizeof(data));
    end(0);
}

static void
test_management_errors_are_told(void)
{
    struct ovsshm_volume *other;
    begin("error=EIO error-op=snapshot,resize,remove");
    CHECK_EQ(ovsshm_snapshot_create(conn, "v", "s", 0), -EIO);
    CHECK_TEXT(ovsshm_reason(), "the fault store was told to fail with EIO");
    CHECK_EQ(ovsshm_resize(conn, "v", 2 * MIB), -EIO);
    CHECK_EQ(ovsshm_volume_bytes(volume), MIB);
    end(0);
    begin("error=EMFILE error-op=open error-after=1");
    CHECK_EQ(ovsshm_create(conn, "w", MIB), 0);
    CHECK_EQ(ovsshm_open(conn, "w", NULL, &other), -EMFILE);
    CHECK_EQ(ovsshm_remove(conn, "w"), 0); /* a failed open leaves nothing open */
    end(0);
}

static void
test_requests_that_never_complete_are_dropped_at_the_end(void)
{
    struct ovsshm_completion done[4];
    struct ovsshm_queue *queue;
    begin("never-op=write");
    queue = ovsshm_volume_queue(volume, 0);
    for (int i = 0; i < 3; i++) {
        struct ovsshm_io write = {
            .op = OVSSHM_OP_WRITE, .buffer = data, .length_bytes = sizeof(data)};
        CHECK_EQ(ovsshm_queue_prep(queue, &write), 0);
    }
    CHECK_EQ(ovsshm_queue_submit(queue), 3);
    CHECK_EQ(io(OVSSHM_OP_READ), sizeof(data)); /* others overtake them */
    CHECK_EQ(ovsshm_queue_wait(queue, done, 4, 1000000), 0);
    end(-ETIMEDOUT);
}

static void
test_requests_that_wait_at_the_end_are_dropped(void)
{
    begin("delay-ms=3600000 delay-op=write");
    struct ovsshm_queue *queue = ovsshm_volume_queue(volume, 0);
    struct ovsshm_io write = {.op = OVSSHM_OP_WRITE, .buffer = data, .length_bytes = sizeof(data)};
    CHECK_EQ(ovsshm_queue_prep(queue, &write), 0);
    CHECK_EQ(ovsshm_queue_submit(queue), 1);
    end(-ETIMEDOUT);
}

/* ---- options
 * -------------------------------------------------------------------------------------- */

static void
expect_bad_option(const struct ovsshm_store_type *type, const char *key, const char *value,
                  const char *reason)
{
    const struct ovsshm_store_option option = {key, value};
    const struct ovsshm_store_params params = {.options = &option, .option_count = 1};
    struct ovsshm_error error = {.reason = ""};
    struct ovsshm_store *store = NULL;
    CHECK_EQ(type->create(&params, &store, &error), -EINVAL);
    CHECK_TEXT(error.reason, reason);
}

static void
test_bad_options_are_named(void)
{
    const struct ovsshm_store_type *fault = &ovsshm_store_fault;
    expect_bad_option(&ovsshm_store_memory, "size", "1", "store \"memory\" has no option \"size\"");
    expect_bad_option(&ovsshm_store_null, "x", "", "store \"null\" has no option \"x\"");
    expect_bad_option(fault, "delay", "1", "store \"memory\" has no option \"delay\"");
    expect_bad_option(fault, "delay-ms", "-1", "option \"delay-ms\": \"-1\" is not a number");
    expect_bad_option(fault, "delay-ms", "", "is not a number");
    expect_bad_option(fault, "delay-ms", "1x", "is not a number");
    expect_bad_option(fault, "delay-ms", "99999999", "is not a number up to 3600000");
    expect_bad_option(fault, "delay-ms", "99999999999999999999999", "is not a number up to");
    expect_bad_option(fault, "error", "EFOO", "\"EFOO\" is not an errno name");
    expect_bad_option(fault, "error-op", "read,wrte", "unknown word in \"read,wrte\"");
    expect_bad_option(fault, "error-op", "", "unknown word");
    expect_bad_option(fault, "without", "magic", "unknown word");
    expect_bad_option(fault, "block-bytes", "513", "513 is not a power of two");
    expect_bad_option(fault, "inner", "fault", "there is no store \"fault\"");
    expect_bad_option(fault, "inner", "nope", "there is no store \"nope\"");
}

static void
test_table_of_stores(void)
{
    unsigned count = 0;
    for (; ovsshm_store_types[count]; count++) {
        CHECK(ovsshm_store_find(ovsshm_store_types[count]->name) == ovsshm_store_types[count]);
        CHECK_EQ(ovsshm_store_types[count]->abi, OVSSHM_STORE_ABI);
        CHECK(ovsshm_store_types[count]->summary[0]);
    }
    CHECK_EQ(count, 4);
    CHECK(!strcmp(ovsshm_store_types[0]->name, "file")); /* the default */
    CHECK(!ovsshm_store_find("nope"));
}

/* ---- stores from shared objects
 * -------------------------------------------------------------------- */

static int
load(const char *source, const struct ovsshm_store_type **type, struct ovsshm_error *error)
{
    static int number;
    char command[1024];
    char *path;
    CHECK(asprintf(&path, "%s/store%d.so", test_dir(), number++) > 0);
    snprintf(command, sizeof(command), "printf '%%s' '%s' | cc -shared -fPIC -x c -o %s -", source,
             path);
    CHECK_EQ(system(command), 0);
    int rc = ovsshm_store_load(path, type, error);
    free(path);
    return rc;
}

static void
test_store_from_a_shared_object(void)
{
    const struct ovsshm_store_type *type = NULL;
    struct ovsshm_error error;
    CHECK_EQ(load("const struct { unsigned abi, flags; const char *name; void *rest[64]; } "
                  "ovsshm_store_plugin = {2, 0, \"mine\"};",
                  &type, &error),
             0);
    CHECK(!strcmp(type->name, "mine"));
    CHECK_EQ(load("const unsigned ovsshm_store_plugin[64] = {999};", &type, &error), -EINVAL);
    CHECK_TEXT(error.reason, "is built for interface 999, this server has 2");
    CHECK_EQ(load("int nothing;", &type, &error), -EINVAL);
    CHECK_TEXT(error.reason, "has no symbol ovsshm_store_plugin");
    CHECK_EQ(ovsshm_store_load("/no/such.so", &type, &error), -ENOENT);
    CHECK_TEXT(error.reason, "/no/such.so");
}

int
main(void)
{
    test_begin(120);
    RUN(test_error_hits_the_ops_named);
    RUN(test_error_begins_late_and_ends);
    RUN(test_error_with_delay_comes_from_another_thread);
    RUN(test_management_errors_are_told);
    RUN(test_requests_that_never_complete_are_dropped_at_the_end);
    RUN(test_requests_that_wait_at_the_end_are_dropped);
    RUN(test_bad_options_are_named);
    RUN(test_table_of_stores);
    RUN(test_store_from_a_shared_object);
    return 0;
}
