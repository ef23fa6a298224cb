/* SPDX-License-Identifier: MIT */
/*
 * Block driver for the volumes of a shared-memory server: openvstorage:VOLUME
 *
 * The server is reached through libovsvolumedriver's native API: requests go
 * into a ring in shared memory, completions come back in another, and a file
 * descriptor wakes whoever sleeps.
 *
 * A coroutine prepares its request and yields.  One bottom half (or unplug)
 * hands the batch to the server, then polls for completions for as long as the
 * library finds that worth it, and enters the coroutines they belong to: what
 * these submit next joins the next round without a return to the event loop.
 * Only when polling does not pay does it arm the completion fd and return.
 *
 * This file is block/openvstorage.c of a patched QEMU, and also, with no QAPI
 * schema of its own (CONFIG_OPENVSTORAGE unset), the object that is loaded
 * into an unmodified one.
 */
#include "qemu/osdep.h"
#include <openvstorage/shm.h>
#include "block/block_int.h"
#include "block/thread-pool.h"
#include "qapi/error.h"
#include "qapi/qmp/qdict.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qemu/option.h"

#define OVS_OPT_TRANSPORT           "transport"
#define OVS_OPT_VOLUME              "volume"
#define OVS_OPT_HOST                "host"
#define OVS_OPT_PORT                "port"
#define OVS_OPT_SOCKET              "socket"
#define OVS_OPT_SNAPSHOT_TIMEOUT    "snapshot-timeout"
#define OVS_OPT_ENABLE_HA           "enable-ha"

#define OVS_SNAPSHOT_TIMEOUT_S      120

/* The event loop has other work to do, and may hold the big lock. */
#define OVS_LOOP_NS_MAX             (200 * SCALE_US)
#define OVS_LOOP_TURNS_UNTIMED      8
#define OVS_LOOP_BATCH              16

#define OVS_EXTENTS_MAX             32
#define OVS_SNAPSHOT_PAGE           64

typedef struct OVSConfig {
    char *volume;
    char *socket;               /* NULL: the library's default */
    int64_t snapshot_timeout_s; /* 0: no limit */
    bool enable_ha;             /* accepted; of no use to shared memory */
} OVSConfig;

/* One request; lives on the stack of its coroutine. */
typedef struct OVSRequest {
    struct ovsshm_io io;
    Coroutine *co;
    int64_t result;
    QSIMPLEQ_ENTRY(OVSRequest) next;
} OVSRequest;

/*
 * The data path in one AioContext.  Each attach makes a new one; the old one
 * is freed by its own context, when nothing there can be using it any more.
 *
 * The members belong to the context's thread, except that detach, in the main
 * thread, clears the queue pointer under the lock.  So the queue may be used
 * under the lock, and without it while there are requests: a node with
 * requests is neither detached nor closed.
 */
typedef struct OVSLoop {
    BlockDriverState *bs;
    AioContext *ctx;
    QEMUBH *bh;
    QemuMutex lock;
    struct ovsshm_queue *queue;

    unsigned requests;          /* prepared, their coroutines not yet entered */
    QSIMPLEQ_HEAD(, OVSRequest) waiting;    /* for room in the queue */
    unsigned depth;             /* ovs_loop_run() frames; > 1 if nested */
    bool running;               /* new requests need no bottom half */
    bool armed;                 /* the server makes the fd readable */
    bool polling;               /* the event loop polls: do not arm */

    /* Reaped, not yet delivered; here so that a nested event loop can. */
    struct ovsshm_completion done[OVS_LOOP_BATCH];
    unsigned done_next;
    unsigned done_count;
} OVSLoop;

typedef struct BDRVOpenvstorageState {
    OVSConfig config;
    struct ovsshm_volume *volume;
    OVSLoop *loop;
    uint32_t mode;              /* enum ovsshm_mode */
    CoMutex resize_lock;
    bool reported_gone;
    bool reported_snapshots;
} BDRVOpenvstorageState;

/*
 * WHAT: ERRNO (REASON), without what the library's or server's sentence says
 * already: often all of it.
 */
static void G_GNUC_PRINTF(4, 5)
ovs_error(Error **errp, int ret, const char *reason, const char *fmt, ...)
{
    g_autofree char *what = NULL;
    va_list ap;

    va_start(ap, fmt);
    what = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (strstr(reason, strerror(-ret)) && strstart(reason, "cannot ", NULL)) {
        error_setg(errp, "%s", reason);
    } else if (strstr(reason, strerror(-ret))) {
        error_setg(errp, "%s: %s", what, reason);
    } else {
        error_setg(errp, "%s: %s (%s)", what, strerror(-ret), reason);
    }
}

/*
 * Calls that wait for the server.  They run in a thread of the pool, the
 * management ones on a connection of their own: they may take minutes.
 */
typedef struct OVSCall OVSCall;
struct OVSCall {
    int (*func)(OVSCall *call, struct ovsshm_conn *conn);
    AioContext *held;               /* unlocked meanwhile, or NULL */
    struct ovsshm_volume *volume;   /* NULL: a management call */
    const OVSConfig *config;
    const char *name;               /* of a snapshot */
    uint64_t value;                 /* size or mode */
    struct ovsshm_volume_info info;
    GArray *snapshots;              /* of struct ovsshm_snapshot_info */

    int ret;
    char reason[OVSSHM_NAME_BYTES];
    bool done;
};

static int ovs_call_thread(void *opaque)
{
    OVSCall *call = opaque;
    struct ovsshm_conn *conn = NULL;

    call->ret = call->volume ? 0 : ovsshm_connect(call->config->socket, &conn);
    if (call->ret == 0) {
        call->ret = call->func(call, conn);
    }
    if (call->ret < 0) {
        /* Reasons belong to the thread and its last call. */
        pstrcpy(call->reason, sizeof(call->reason), ovsshm_reason());
    }
    ovsshm_disconnect(conn);
    return 0;
}

static void ovs_call_done(void *opaque, int ret)
{
    OVSCall *call = opaque;

    call->done = true;
    aio_wait_kick();
}

/* Waits, but lets the event loop go on, in and out of coroutines. */
static int ovs_call(OVSCall *call)
{
    AioContext *ctx = qemu_get_current_aio_context();

    if (qemu_in_coroutine()) {
        thread_pool_submit_co(aio_get_thread_pool(ctx), ovs_call_thread, call);
    } else if (ctx == qemu_get_aio_context()) {
        thread_pool_submit_aio(aio_get_thread_pool(ctx), ovs_call_thread, call,
                               ovs_call_done, call);
        AIO_WAIT_WHILE(call->held, !call->done);
    } else {
        ovs_call_thread(call);
    }
    return call->ret;
}

static int ovs_call_resize(OVSCall *call, struct ovsshm_conn *conn)
{
    return ovsshm_volume_resize(call->volume, call->value);
}

static int ovs_call_set_mode(OVSCall *call, struct ovsshm_conn *conn)
{
    return ovsshm_volume_set_mode(call->volume, call->value);
}

static int ovs_call_stat(OVSCall *call, struct ovsshm_conn *conn)
{
    return ovsshm_volume_stat(call->volume, &call->info);
}

static int ovs_call_create(OVSCall *call, struct ovsshm_conn *conn)
{
    return ovsshm_create(conn, call->config->volume, call->value);
}

static int ovs_call_snapshot_create(OVSCall *call, struct ovsshm_conn *conn)
{
    return ovsshm_snapshot_create(conn, call->config->volume, call->name,
                                  call->config->snapshot_timeout_s);
}

static int ovs_call_snapshot_rollback(OVSCall *call, struct ovsshm_conn *conn)
{
    return ovsshm_snapshot_rollback(conn, call->config->volume, call->name);
}

static int ovs_call_snapshot_remove(OVSCall *call, struct ovsshm_conn *conn)
{
    return ovsshm_snapshot_remove(conn, call->config->volume, call->name);
}

static int ovs_call_snapshot_list(OVSCall *call, struct ovsshm_conn *conn)
{
    GArray *all = call->snapshots;
    struct ovsshm_snapshot_info *page;
    int n;

    do {
        guint count = all->len;

        g_array_set_size(all, count + OVS_SNAPSHOT_PAGE);
        page = &g_array_index(all, struct ovsshm_snapshot_info, count);
        n = ovsshm_snapshot_list(conn, call->config->volume,
                                 count > 0 ? page[-1].name : NULL, page,
                                 OVS_SNAPSHOT_PAGE);
        g_array_set_size(all, count + MAX(n, 0));
    } while (n > 0);
    return n;
}

/* ---- names and options ---- */

static QemuOptsList ovs_runtime_opts = {
    .name = "openvstorage",
    .head = QTAILQ_HEAD_INITIALIZER(ovs_runtime_opts.head),
    .desc = {
        {
            .name = OVS_OPT_TRANSPORT,
            .type = QEMU_OPT_STRING,
            .help = "Transport to the server (shm, tcp, rdma; default: shm)",
        },
        {
            .name = OVS_OPT_VOLUME,
            .type = QEMU_OPT_STRING,
            .help = "Name of the volume",
        },
        {
            .name = OVS_OPT_HOST,
            .type = QEMU_OPT_STRING,
            .help = "Server (tcp, rdma)",
        },
        {
            .name = OVS_OPT_PORT,
            .type = QEMU_OPT_NUMBER,
            .help = "Port of the server (tcp, rdma)",
        },
        {
            .name = OVS_OPT_SOCKET,
            .type = QEMU_OPT_STRING,
            .help = "Path of the server's socket (shm)",
        },
        {
            .name = OVS_OPT_SNAPSHOT_TIMEOUT,
            .type = QEMU_OPT_NUMBER,
            .help = "Seconds to wait for a new snapshot to be safe, 0 for no "
                    "limit (default: 120)",
        },
        {
            .name = OVS_OPT_ENABLE_HA,
            .type = QEMU_OPT_BOOL,
            .help = "High availability (tcp, rdma; default: on)",
        },
        { /* end of list */ }
    },
};

static QemuOptsList ovs_create_opts = {
    .name = "openvstorage-create-opts",
    .head = QTAILQ_HEAD_INITIALIZER(ovs_create_opts.head),
    .desc = {
        {
            .name = BLOCK_OPT_SIZE,
            .type = QEMU_OPT_SIZE,
            .help = "Virtual disk size",
        },
        { /* end of list */ }
    },
};

static const char *const ovs_strong_runtime_opts[] = {
    OVS_OPT_TRANSPORT,
    OVS_OPT_VOLUME,
    OVS_OPT_HOST,
    OVS_OPT_PORT,
    OVS_OPT_SOCKET,
    NULL
};

static bool ovs_put_decoded(QDict *options, const char *key, const char *text,
                            Error **errp)
{
    g_autofree char *value = g_uri_unescape_string(text, NULL);

    if (!value) {
        error_setg(errp, "'%s' is not a valid %s: bad %%-escape", text, key);
        return false;
    }
    qdict_put_str(options, key, value);
    return true;
}

/* HOST[:PORT] of a network transport */
static bool ovs_parse_server(const char *server, QDict *options, Error **errp)
{
    const char *colon = strchr(server, ':');
    g_autofree char *host = colon ? g_strndup(server, colon - server)
                                  : g_strdup(server);
    unsigned int port;

    if (!*host) {
        error_setg(errp, "server and volume name must be specified");
        return false;
    }
    if (colon) {
        if (qemu_strtoui(colon + 1, NULL, 10, &port) < 0 ||
            port < 1 || port > 65535) {
            error_setg(errp, "server/port must be specified: '%s' is not a "
                       "port", colon + 1);
            return false;
        }
        qdict_put_str(options, OVS_OPT_PORT, colon + 1);
    }
    return ovs_put_decoded(options, OVS_OPT_HOST, host, errp);
}

/* NAME=VALUE behind the volume's name */
static bool ovs_parse_option(const char *option, QDict *options, Error **errp)
{
    static const char *const names[] = {
        OVS_OPT_SOCKET, OVS_OPT_SNAPSHOT_TIMEOUT, OVS_OPT_ENABLE_HA,
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *value;

        if (!strstart(option, names[i], &value) || *value++ != '=') {
            continue;
        }
        if (qdict_haskey(options, names[i])) {
            error_setg(errp, "option '%s' is specified twice", names[i]);
            return false;
        }
        return ovs_put_decoded(options, names[i], value, errp);
    }
    error_setg(errp, "unknown option '%s' behind the volume name, expected "
               "socket=PATH, snapshot-timeout=SECONDS or enable-ha=on|off",
               option);
    return false;
}

/*
 * openvstorage[+shm]:VOLUME[:OPTION...]
 * openvstorage+tcp|rdma:HOST[:PORT]/VOLUME[:OPTION...]
 */
static void ovs_parse_filename(const char *filename, QDict *options,
                               Error **errp)
{
    static const char *const in_filename[] = {
        OVS_OPT_TRANSPORT, OVS_OPT_VOLUME, OVS_OPT_HOST, OVS_OPT_PORT,
        OVS_OPT_SNAPSHOT_TIMEOUT,
    };
    const char *colon = strchr(filename, ':');
    g_autofree char *transport = NULL;
    g_auto(GStrv) parts = NULL;
    const char *rest;

    if (!colon || !strstart(filename, "openvstorage", &rest) ||
        (*rest != ':' && *rest != '+')) {
        error_setg(errp, "'%s' does not start with 'openvstorage:'", filename);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(in_filename); i++) {
        if (qdict_haskey(options, in_filename[i])) {
            error_setg(errp, "a file name and option '%s' may not be specified "
                       "at the same time", in_filename[i]);
            return;
        }
    }

    transport = *rest == ':' ? g_strdup("shm")
                             : g_strndup(rest + 1, colon - rest - 1);
    rest = colon + 1;
    qdict_put_str(options, OVS_OPT_TRANSPORT, transport);
    if (strcmp(transport, "shm")) {
        const char *slash = strchr(rest, '/');
        g_autofree char *server = NULL;

        if (!slash || !slash[1] || slash[1] == ':') {
            error_setg(errp, "server and volume name must be specified");
            return;
        }
        server = g_strndup(rest, slash - rest);
        if (!ovs_parse_server(server, options, errp)) {
            return;
        }
        rest = slash + 1;
    }

    parts = g_strsplit(rest, ":", -1);
    if (!parts[0] || !*parts[0]) {
        error_setg(errp, "volume name must be specified");
        return;
    }
    if (!ovs_put_decoded(options, OVS_OPT_VOLUME, parts[0], errp)) {
        return;
    }
    for (int i = 1; parts[i]; i++) {
        if (!ovs_parse_option(parts[i], options, errp)) {
            return;
        }
    }
}

static int ovs_check_transport(const char *transport, QemuOpts *opts,
                               Error **errp)
{
    if (!strcmp(transport, "tcp") || !strcmp(transport, "rdma")) {
        error_setg(errp, "cannot set transport type: '%s' is not supported "
                   "yet, only 'shm' is", transport);
        return -ENOTSUP;
    }
    if (strcmp(transport, "shm")) {
        error_setg(errp, "cannot set transport type: '%s' is none of 'shm', "
                   "'tcp' and 'rdma'", transport);
        return -EINVAL;
    }
    if (qemu_opt_get(opts, OVS_OPT_HOST) || qemu_opt_get(opts, OVS_OPT_PORT)) {
        error_setg(errp, "transport 'shm' has neither host nor port, but a "
                   "socket");
        return -EINVAL;
    }
    return 0;
}

static void ovs_config_clear(OVSConfig *config)
{
    g_free(config->volume);
    g_free(config->socket);
    memset(config, 0, sizeof(*config));
}

/* Takes its options out of the dictionary; config is filled on success. */
static int ovs_config_init(OVSConfig *config, QDict *options, Error **errp)
{
    QemuOpts *opts = qemu_opts_create(&ovs_runtime_opts, NULL, 0, &error_abort);
    const char *transport;
    const char *volume;
    uint64_t timeout_s;
    int ret = -EINVAL;

    if (!qemu_opts_absorb_qdict(opts, options, errp)) {
        goto out;
    }
    transport = qemu_opt_get(opts, OVS_OPT_TRANSPORT) ?: "shm";
    ret = ovs_check_transport(transport, opts, errp);
    if (ret < 0) {
        goto out;
    }
    ret = -EINVAL;
    volume = qemu_opt_get(opts, OVS_OPT_VOLUME);
    if (!volume || !*volume) {
        error_setg(errp, "volume name must be specified");
        goto out;
    }
    timeout_s = qemu_opt_get_number(opts, OVS_OPT_SNAPSHOT_TIMEOUT,
                                    OVS_SNAPSHOT_TIMEOUT_S);
    if (timeout_s > INT32_MAX) {
        error_setg(errp, "snapshot-timeout must be between 0 and %d seconds",
                   INT32_MAX);
        goto out;
    }
    *config = (OVSConfig) {
        .volume = g_strdup(volume),
        .socket = g_strdup(qemu_opt_get(opts, OVS_OPT_SOCKET)),
        .snapshot_timeout_s = timeout_s,
        .enable_ha = qemu_opt_get_bool(opts, OVS_OPT_ENABLE_HA, true),
    };
    ret = 0;
out:
    qemu_opts_del(opts);
    return ret;
}

static void ovs_append_escaped(GString *name, const char *text)
{
    g_string_append_uri_escaped(name, text, "/!#$&'()*+,;=?@[] ", true);
}

static void ovs_refresh_filename(BlockDriverState *bs)
{
    BDRVOpenvstorageState *s = bs->opaque;
    g_autoptr(GString) name = g_string_new("openvstorage:");
    char usual_socket[PATH_MAX];

    ovs_append_escaped(name, s->config.volume);
    if (s->config.socket &&
        (ovsshm_default_socket(usual_socket, sizeof(usual_socket)) < 0 ||
         strcmp(s->config.socket, usual_socket))) {
        g_string_append(name, ":socket=");
        ovs_append_escaped(name, s->config.socket);
    }
    if (s->config.snapshot_timeout_s != OVS_SNAPSHOT_TIMEOUT_S) {
        g_string_append_printf(name, ":snapshot-timeout=%" PRId64,
                               s->config.snapshot_timeout_s);
    }
    if (!s->config.enable_ha) {
        g_string_append(name, ":enable-ha=off");
    }
    if (name->len < sizeof(bs->exact_filename)) {
        pstrcpy(bs->exact_filename, sizeof(bs->exact_filename), name->str);
    }
}

/* ---- data path ---- */

/* Under the loop's lock, or while there are requests. */
static void ovs_loop_disarm(OVSLoop *loop)
{
    ovsshm_queue_disarm(loop->queue);
    loop->armed = false;
}

static int ovs_loop_prep(OVSLoop *loop, OVSRequest *req)
{
    int ret = ovsshm_queue_prep(loop->queue, &req->io);

    if (ret == 0) {
        loop->requests++;
    } else if (ret == -EAGAIN && ovsshm_queue_in_flight(loop->queue) == 0) {
        ret = -ENOMEM;          /* no completion will ever make room */
    }
    return ret;
}

/* As aio_co_wake(), the context's lock taken once for all. */
static void ovs_loop_deliver(OVSLoop *loop)
{
    aio_context_acquire(loop->ctx);
    while (loop->done_next < loop->done_count) {
        struct ovsshm_completion *c = &loop->done[loop->done_next++];
        OVSRequest *req = (OVSRequest *)(uintptr_t)c->user_data;

        req->result = c->result;
        loop->requests--;
        loop->running = true;
        qemu_coroutine_enter(req->co);
    }
    aio_context_release(loop->ctx);
}

static void ovs_loop_refill(OVSLoop *loop)
{
    OVSRequest *req;

    while ((req = QSIMPLEQ_FIRST(&loop->waiting))) {
        int ret = ovs_loop_prep(loop, req);

        if (ret == -EAGAIN) {
            return;
        }
        QSIMPLEQ_REMOVE_HEAD(&loop->waiting, next);
        if (ret < 0) {
            req->result = ret;
            aio_co_wake(req->co);
        }
    }
}

/* True: the fd will tell, or the event loop looks. */
static bool ovs_loop_sleep(OVSLoop *loop)
{
    if (!loop->polling) {
        loop->armed = ovsshm_queue_arm(loop->queue) == 0;
    }
    return loop->polling || loop->armed;
}

/* Submits, reaps and enters coroutines while there is something to do. */
static void ovs_loop_run(OVSLoop *loop)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + OVS_LOOP_NS_MAX;
    unsigned turns = 0;

    /*
     * From here on the bottom half is scheduled: for a nested event loop, and
     * to come back when time is up.
     */
    qemu_bh_schedule(loop->bh);
    loop->depth++;
    if (loop->armed) {
        ovs_loop_disarm(loop);
    }
    while (true) {
        ovs_loop_deliver(loop);
        ovs_loop_refill(loop);
        if (loop->requests == 0) {
            qemu_bh_cancel(loop->bh);
            break;
        }
        ovsshm_queue_submit(loop->queue);
        loop->done_next = 0;
        loop->done_count = ovsshm_queue_spin(loop->queue, loop->done,
                                             OVS_LOOP_BATCH);
        if (loop->done_count == 0 && ovs_loop_sleep(loop)) {
            qemu_bh_cancel(loop->bh);
            break;
        }
        if (++turns % OVS_LOOP_TURNS_UNTIMED == 0 &&
            qemu_clock_get_ns(QEMU_CLOCK_REALTIME) > deadline) {
            break;
        }
    }
    loop->running = false;
    loop->depth--;
}

static void ovs_loop_bh(void *opaque)
{
    OVSLoop *loop = opaque;

    if (loop->requests > 0) {
        ovs_loop_run(loop);
    }
}

/* Once; ret is of a call, or the volume's state. */
static void ovs_report_gone(BDRVOpenvstorageState *s)
{
    if (!s->reported_gone && ovsshm_volume_state(s->volume) < 0) {
        s->reported_gone = true;
        error_report("openvstorage: volume '%s' is lost: %s", s->config.volume,
                     ovsshm_reason());
    }
}

static void ovs_loop_fd_ready(void *opaque)
{
    OVSLoop *loop = opaque;

    WITH_QEMU_LOCK_GUARD(&loop->lock) {
        if (!loop->queue) {
            return;
        }
        ovs_loop_disarm(loop);
        ovs_report_gone(loop->bs->opaque);
    }
    ovs_loop_bh(loop);
}

static bool ovs_loop_poll(void *opaque)
{
    OVSLoop *loop = opaque;

    return loop->requests > 0 && ovsshm_queue_ready(loop->queue);
}

static void ovs_loop_poll_begin(void *opaque)
{
    OVSLoop *loop = opaque;

    loop->polling = true;
    if (loop->armed) {
        ovs_loop_disarm(loop);
    }
}

/* The event loop polls once more after this, so nothing is missed. */
static void ovs_loop_poll_end(void *opaque)
{
    OVSLoop *loop = opaque;

    loop->polling = false;
    if (loop->requests > 0) {
        ovs_loop_sleep(loop);
    }
}

static void ovs_attach_aio_context(BlockDriverState *bs, AioContext *ctx)
{
    BDRVOpenvstorageState *s = bs->opaque;
    OVSLoop *loop = g_new0(OVSLoop, 1);
    int fd;

    loop->bs = bs;
    loop->ctx = ctx;
    loop->queue = ovsshm_volume_queue(s->volume, 0);
    loop->bh = aio_bh_new(ctx, ovs_loop_bh, loop);
    qemu_mutex_init(&loop->lock);
    QSIMPLEQ_INIT(&loop->waiting);
    s->loop = loop;

    fd = ovsshm_queue_fd(loop->queue);
    aio_set_fd_handler(ctx, fd, false, ovs_loop_fd_ready, NULL, ovs_loop_poll,
                       ovs_loop_bh, loop);
    aio_set_fd_poll(ctx, fd, ovs_loop_poll_begin, ovs_loop_poll_end);
}

static void ovs_loop_free(void *opaque)
{
    OVSLoop *loop = opaque;

    if (loop->depth > 0) {
        /* In a nested event loop: not before the frames above are gone. */
        aio_bh_schedule_oneshot(loop->ctx, ovs_loop_free, loop);
        return;
    }
    qemu_bh_delete(loop->bh);
    qemu_mutex_destroy(&loop->lock);
    g_free(loop);
}

static void ovs_detach_aio_context(BlockDriverState *bs)
{
    BDRVOpenvstorageState *s = bs->opaque;
    OVSLoop *loop = s->loop;

    aio_set_fd_handler(loop->ctx, ovsshm_queue_fd(loop->queue), false,
                       NULL, NULL, NULL, NULL, NULL);
    WITH_QEMU_LOCK_GUARD(&loop->lock) {
        loop->queue = NULL;
    }
    aio_bh_schedule_oneshot(loop->ctx, ovs_loop_free, loop);
    s->loop = NULL;
}

static void ovs_io_unplug(BlockDriverState *bs)
{
    BDRVOpenvstorageState *s = bs->opaque;
    OVSLoop *loop = s->loop;

    if (loop->requests > 0 && !loop->running) {
        ovsshm_queue_submit(loop->queue);
        qemu_bh_schedule(loop->bh);
    }
}

/* The request's result: 0 or more, or -errno as the guest may see it. */
static int64_t coroutine_fn ovs_co_request(BlockDriverState *bs,
                                           OVSRequest *req)
{
    BDRVOpenvstorageState *s = bs->opaque;
    OVSLoop *loop = s->loop;

    req->co = qemu_coroutine_self();
    req->io.user_data = (uintptr_t)req;
    req->result = QSIMPLEQ_EMPTY(&loop->waiting) ? ovs_loop_prep(loop, req)
                                                 : -EAGAIN;
    if (req->result == -EAGAIN) {
        QSIMPLEQ_INSERT_TAIL(&loop->waiting, req, next);
        qemu_coroutine_yield();
    } else if (req->result == 0) {
        if (!loop->running && qatomic_read(&bs->io_plugged) == 0) {
            qemu_bh_schedule(loop->bh);
        }
        qemu_coroutine_yield();
    }
    if (req->result == -ENOTCONN) {
        ovs_report_gone(s);
        return -EIO;
    }
    return req->result;
}

static int coroutine_fn ovs_co_preadv(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      BdrvRequestFlags flags)
{
    OVSRequest req = {
        .io = {
            .op = OVSSHM_OP_READ,
            .offset_bytes = offset,
            .length_bytes = bytes,
            .iov = qiov->iov,
            .iov_count = qiov->niov,
        },
    };
    int64_t done = ovs_co_request(bs, &req);

    if (done < 0) {
        return done;
    }
    if (done < bytes) {
        /* Behind the end of the volume, in its last aligned block. */
        qemu_iovec_memset(qiov, done, 0, bytes - done);
    }
    return 0;
}

/* Has the volume at least this size afterwards? */
static int coroutine_fn ovs_co_grow(BlockDriverState *bs, uint64_t bytes,
                                    Error **errp)
{
    BDRVOpenvstorageState *s = bs->opaque;
    OVSCall call = {
        .func = ovs_call_resize,
        .volume = s->volume,
        .value = ROUND_UP(bytes, OVSSHM_SECTOR_BYTES),
    };
    int ret = 0;

    qemu_co_mutex_lock(&s->resize_lock);
    if (bytes > ovsshm_volume_bytes(s->volume)) {
        ret = ovs_call(&call);
    }
    qemu_co_mutex_unlock(&s->resize_lock);
    if (ret < 0) {
        ovs_error(errp, ret, call.reason, "cannot resize volume '%s'",
                  s->config.volume);
    }
    return ret;
}

/* Image formats write behind the end of their file to make it grow. */
static int coroutine_fn ovs_co_write(BlockDriverState *bs, OVSRequest *req)
{
    BDRVOpenvstorageState *s = bs->opaque;
    uint64_t end = req->io.offset_bytes + req->io.length_bytes;
    int64_t ret;

    if (end > ovsshm_volume_bytes(s->volume)) {
        ret = ovs_co_grow(bs, end, NULL);
        if (ret < 0) {
            return ret;
        }
    }
    ret = ovs_co_request(bs, req);
    return MIN(ret, 0);
}

static int coroutine_fn ovs_co_pwritev(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       BdrvRequestFlags flags)
{
    OVSRequest req = {
        .io = {
            .op = OVSSHM_OP_WRITE,
            .flags = flags & BDRV_REQ_FUA ? OVSSHM_SQE_FUA : 0,
            .offset_bytes = offset,
            .length_bytes = bytes,
            .iov = qiov->iov,
            .iov_count = qiov->niov,
        },
    };

    return ovs_co_write(bs, &req);
}

static int coroutine_fn ovs_co_pwrite_zeroes(BlockDriverState *bs,
                                             int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    OVSRequest req = {
        .io = {
            .op = OVSSHM_OP_WRITE_ZEROES,
            .flags = (flags & BDRV_REQ_FUA ? OVSSHM_SQE_FUA : 0) |
                     (flags & BDRV_REQ_MAY_UNMAP ? OVSSHM_SQE_MAY_UNMAP : 0),
            .offset_bytes = offset,
            .length_bytes = bytes,
        },
    };

    return ovs_co_write(bs, &req);
}

static int coroutine_fn ovs_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes)
{
    OVSRequest req = {
        .io = {
            .op = OVSSHM_OP_DISCARD,
            .offset_bytes = offset,
            .length_bytes = bytes,
        },
    };

    if (!QEMU_IS_ALIGNED(offset | bytes, bs->bl.request_alignment)) {
        return -ENOTSUP;        /* less than a block, split off by the caller */
    }
    return ovs_co_request(bs, &req);
}

static int coroutine_fn ovs_co_flush_to_disk(BlockDriverState *bs)
{
    BDRVOpenvstorageState *s = bs->opaque;
    OVSRequest req = { .io = { .op = OVSSHM_OP_FLUSH } };

    if (s->mode != OVSSHM_MODE_WRITE) {
        return 0;               /* nothing of ours can be unsafe */
    }
    return ovs_co_request(bs, &req);
}

static int ovs_block_status(const struct ovsshm_extent *extent)
{
    if (!(extent->flags & OVSSHM_EXTENT_ZERO)) {
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    }
    if (extent->flags & OVSSHM_EXTENT_HOLE) {
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID;
    }
    return BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID;
}

/* The extents are the server's and may be anything. */
static int coroutine_fn ovs_co_block_status(BlockDriverState *bs,
                                            bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum,
                                            int64_t *map,
                                            BlockDriverState **file)
{
    BDRVOpenvstorageState *s = bs->opaque;
    const struct ovsshm_limits *limits = ovsshm_volume_limits(s->volume);
    struct ovsshm_extent extents[OVS_EXTENTS_MAX];
    uint64_t asked = MIN(bytes, limits->range_bytes_max);
    OVSRequest req = {
        .io = {
            .op = OVSSHM_OP_BLOCK_STATUS,
            .offset_bytes = offset,
            .length_bytes = asked,
            .buffer = extents,
            .extents_max = ARRAY_SIZE(extents),
        },
    };
    int status = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    int64_t count = 0;
    uint64_t length = 0;

    if (limits->capabilities & OVSSHM_CAP_BLOCK_STATUS) {
        count = ovs_co_request(bs, &req);
        if (count < 0) {
            return count;
        }
    }
    if (count > 0) {
        status = ovs_block_status(&extents[0]);
    }
    for (int i = 0; i < count && length < asked &&
         ovs_block_status(&extents[i]) == status; i++) {
        length += MIN(extents[i].length_bytes, asked - length);
    }
    *map = offset;
    *file = bs;
    *pnum = QEMU_ALIGN_DOWN(length, limits->block_bytes);
    if (*pnum == 0) {
        /* Nothing said about a whole block. */
        *pnum = count > 0 ? limits->block_bytes : asked;
        status = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    }
    return status;
}

/* ---- open, close, reopen ---- */

static uint32_t ovs_mode(int flags)
{
    bool writable = (flags & BDRV_O_RDWR) && !(flags & BDRV_O_INACTIVE);

    return writable ? OVSSHM_MODE_WRITE : OVSSHM_MODE_READ;
}

static int ovs_open_volume(BlockDriverState *bs, struct ovsshm_conn *conn,
                           int flags)
{
    BDRVOpenvstorageState *s = bs->opaque;
    struct ovsshm_open_params params = { .mode = ovs_mode(flags) };
    int ret = ovsshm_open(conn, s->config.volume, &params, &s->volume);

    if (ret == -EROFS && bdrv_apply_auto_read_only(bs, NULL, NULL) == 0) {
        params.mode = OVSSHM_MODE_READ;
        ret = ovsshm_open(conn, s->config.volume, &params, &s->volume);
    }
    s->mode = params.mode;
    return ret;
}

static int ovs_connect_and_open(BlockDriverState *bs, int flags, Error **errp)
{
    BDRVOpenvstorageState *s = bs->opaque;
    struct ovsshm_conn *conn = NULL;
    int ret = ovsshm_connect(s->config.socket, &conn);

    if (ret < 0) {
        ovs_error(errp, ret, ovsshm_reason(), "cannot open volume '%s'",
                  s->config.volume);
        return ret;
    }
    ret = ovs_open_volume(bs, conn, flags);
    if (ret < 0) {
        ovs_error(errp, ret, ovsshm_reason(), "cannot open volume '%s'",
                  s->config.volume);
    } else if (!is_power_of_2(ovsshm_volume_limits(s->volume)->block_bytes)) {
        error_setg(errp, "cannot open volume '%s': its block size of %u bytes "
                   "is not a power of two", s->config.volume,
                   ovsshm_volume_limits(s->volume)->block_bytes);
        ovsshm_close(s->volume);
        ret = -EINVAL;
    }
    ovsshm_disconnect(conn);
    return ret;
}

static int ovs_file_open(BlockDriverState *bs, QDict *options, int flags,
                         Error **errp)
{
    BDRVOpenvstorageState *s = bs->opaque;
    int ret = ovs_config_init(&s->config, options, errp);

    if (ret < 0) {
        return ret;
    }
    ret = ovs_connect_and_open(bs, flags, errp);
    if (ret < 0) {
        ovs_config_clear(&s->config);
        return ret;
    }
    qemu_co_mutex_init(&s->resize_lock);
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP;
    if (ovsshm_volume_limits(s->volume)->capabilities &
        OVSSHM_CAP_WRITE_ZEROES) {
        bs->supported_zero_flags |= BDRV_REQ_NO_FALLBACK;
    }
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
    ovs_attach_aio_context(bs, bdrv_get_aio_context(bs));
    return 0;
}

static void ovs_close(BlockDriverState *bs)
{
    BDRVOpenvstorageState *s = bs->opaque;

    ovs_detach_aio_context(bs);
    ovsshm_close(s->volume);
    ovs_config_clear(&s->config);
}

static int ovs_set_mode(BDRVOpenvstorageState *s, uint32_t mode)
{
    int ret = 0;

    if (mode != s->mode) {
        ret = ovsshm_volume_set_mode(s->volume, mode);
        s->mode = ret < 0 ? s->mode : mode;
    }
    return ret;
}

/* Becomes the writer here, or fails; gives the role up in commit only. */
static int ovs_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                              Error **errp)
{
    BDRVOpenvstorageState *s = state->bs->opaque;
    int ret = 0;

    state->opaque = GUINT_TO_POINTER(s->mode);
    if (ovs_mode(state->flags) == OVSSHM_MODE_WRITE) {
        ret = ovs_set_mode(s, OVSSHM_MODE_WRITE);
    }
    if (ret < 0) {
        ovs_error(errp, ret, ovsshm_reason(),
                  "cannot reopen volume '%s' for writing", s->config.volume);
    }
    return ret;
}

static void ovs_reopen_commit(BDRVReopenState *state)
{
    BDRVOpenvstorageState *s = state->bs->opaque;

    /* Failing means that the session is over. */
    ovs_set_mode(s, ovs_mode(state->flags));
}

static void ovs_reopen_abort(BDRVReopenState *state)
{
    BDRVOpenvstorageState *s = state->bs->opaque;

    if (state->opaque) {
        ovs_set_mode(s, GPOINTER_TO_UINT(state->opaque));
    }
}

/* Migration: the source hands the writer's role over to the destination. */
static int ovs_inactivate(BlockDriverState *bs)
{
    return ovs_set_mode(bs->opaque, OVSSHM_MODE_READ);
}

static void coroutine_fn ovs_co_invalidate_cache(BlockDriverState *bs,
                                                 Error **errp)
{
    BDRVOpenvstorageState *s = bs->opaque;
    OVSCall call = {
        .func = ovs_call_set_mode,
        .volume = s->volume,
        .value = ovs_mode(bs->open_flags),
    };

    if (call.value == s->mode) {
        return;
    }
    if (ovs_call(&call) < 0) {
        ovs_error(errp, call.ret, call.reason,
                  "cannot take volume '%s' over for writing",
                  s->config.volume);
        return;
    }
    s->mode = call.value;
}

/* ---- size, limits, information ---- */

static int64_t ovs_getlength(BlockDriverState *bs)
{
    BDRVOpenvstorageState *s = bs->opaque;
    uint64_t bytes = ovsshm_volume_bytes(s->volume);

    return bytes > BDRV_MAX_LENGTH ? -EFBIG : (int64_t)bytes;
}

static int64_t ovs_get_allocated_file_size(BlockDriverState *bs)
{
    BDRVOpenvstorageState *s = bs->opaque;
    OVSCall call = { .func = ovs_call_stat, .volume = s->volume };
    int ret = ovs_call(&call);

    return ret < 0 ? ret : (int64_t)call.info.allocated_bytes;
}

static int coroutine_fn ovs_co_truncate(BlockDriverState *bs, int64_t offset,
                                        bool exact, PreallocMode prealloc,
                                        BdrvRequestFlags flags, Error **errp)
{
    BDRVOpenvstorageState *s = bs->opaque;
    uint64_t bytes = ovsshm_volume_bytes(s->volume);

    if (prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Unsupported preallocation mode '%s'",
                   PreallocMode_str(prealloc));
        return -ENOTSUP;
    }
    if (exact && ROUND_UP((uint64_t)offset, OVSSHM_SECTOR_BYTES) < bytes) {
        error_setg(errp, "volume '%s' has %" PRIu64 " bytes and cannot shrink",
                   s->config.volume, bytes);
        return -ENOTSUP;
    }
    return ovs_co_grow(bs, offset, errp);
}

static void ovs_refresh_limits(BlockDriverState *bs, Error **errp)
{
    BDRVOpenvstorageState *s = bs->opaque;
    const struct ovsshm_limits *limits = ovsshm_volume_limits(s->volume);

    bs->bl.request_alignment = limits->block_bytes;
    /* Of the library's pieces one follows another; of QEMU's all are sent. */
    bs->bl.max_transfer = limits->request_bytes_max;
    bs->bl.max_pdiscard = limits->range_bytes_max;
    bs->bl.max_pwrite_zeroes = limits->range_bytes_max;
    bs->bl.min_mem_alignment = 1;
}

/* Says that there is nothing to say: backup jobs warn when it is missing. */
static int ovs_get_info(BlockDriverState *bs, BlockDriverInfo *bdi)
{
    return 0;
}

/* ---- create ---- */

static int coroutine_fn ovs_do_create(const OVSConfig *config, uint64_t size,
                                      Error **errp)
{
    OVSCall call = {
        .func = ovs_call_create,
        .config = config,
        .value = ROUND_UP(size, OVSSHM_SECTOR_BYTES),
    };
    int ret = ovs_call(&call);

    if (ret < 0) {
        ovs_error(errp, ret, call.reason, "cannot create volume");
    }
    return ret;
}

static int coroutine_fn ovs_co_create_opts(BlockDriver *drv,
                                           const char *filename,
                                           QemuOpts *opts, Error **errp)
{
    g_autoptr(QDict) options = qdict_new();
    Error *local_err = NULL;
    OVSConfig config = { 0 };
    int ret;

    ovs_parse_filename(filename, options, &local_err);
    if (local_err) {
        error_propagate(errp, local_err);
        return -EINVAL;
    }
    ret = ovs_config_init(&config, options, errp);
    if (ret == 0) {
        ret = ovs_do_create(&config,
                            qemu_opt_get_size_del(opts, BLOCK_OPT_SIZE, 0),
                            errp);
    }
    ovs_config_clear(&config);
    return ret;
}

#ifdef CONFIG_OPENVSTORAGE
static int coroutine_fn ovs_co_create(BlockdevCreateOptions *options,
                                      Error **errp)
{
    BlockdevCreateOptionsOpenvstorage *opts = &options->u.openvstorage;
    OVSConfig config = {
        .volume = opts->location->volume,
        .socket = opts->location->socket,
    };

    assert(options->driver == BLOCKDEV_DRIVER_OPENVSTORAGE);
    return ovs_do_create(&config, opts->size, errp);
}
#endif

/* ---- snapshots ---- */

/* Called with the AioContext's lock held, as the callbacks below are. */
static int ovs_snapshot_call(BlockDriverState *bs, OVSCall *call,
                             const char *what, Error **errp)
{
    BDRVOpenvstorageState *s = bs->opaque;

    call->config = &s->config;
    call->held = bdrv_get_aio_context(bs);
    if (ovs_call(call) < 0) {
        ovs_error(errp, call->ret, call->reason,
                  "cannot %s snapshot '%s' of volume '%s'", what, call->name,
                  s->config.volume);
    }
    return call->ret;
}

static int ovs_snapshot_create(BlockDriverState *bs, QEMUSnapshotInfo *sn_info)
{
    OVSCall call = {
        .func = ovs_call_snapshot_create,
        .name = sn_info->name,
    };
    Error *local_err = NULL;

    /* The name is the id, too. */
    if (!*sn_info->name ||
        (*sn_info->id_str && strcmp(sn_info->id_str, sn_info->name))) {
        return -EINVAL;
    }
    if (strlen(sn_info->name) >= sizeof(sn_info->id_str)) {
        return -ERANGE;
    }
    if (ovs_snapshot_call(bs, &call, "create", &local_err) < 0) {
        error_report_err(local_err);
        return call.ret;
    }
    pstrcpy(sn_info->id_str, sizeof(sn_info->id_str), sn_info->name);
    return 0;
}

static int ovs_snapshot_goto(BlockDriverState *bs, const char *snapshot_id)
{
    OVSCall call = {
        .func = ovs_call_snapshot_rollback,
        .name = snapshot_id,
    };
    Error *local_err = NULL;

    if (ovs_snapshot_call(bs, &call, "go back to", &local_err) < 0) {
        error_report_err(local_err);
    }
    return call.ret;
}

static int ovs_snapshot_delete(BlockDriverState *bs, const char *snapshot_id,
                               const char *name, Error **errp)
{
    OVSCall call = {
        .func = ovs_call_snapshot_remove,
        .name = name,
    };

    if (!name || (snapshot_id && strcmp(snapshot_id, name))) {
        error_setg(errp, "snapshots of a volume are told by their names only");
        return -EINVAL;
    }
    return ovs_snapshot_call(bs, &call, "delete", errp);
}

static void ovs_snapshot_info(QEMUSnapshotInfo *sn,
                              const struct ovsshm_snapshot_info *info)
{
    pstrcpy(sn->id_str, sizeof(sn->id_str), info->name);
    pstrcpy(sn->name, sizeof(sn->name), info->name);
    sn->date_sec = info->created_ns / NANOSECONDS_PER_SECOND;
    sn->date_nsec = info->created_ns % NANOSECONDS_PER_SECOND;
    sn->icount = -1ULL;
}

/* -ENOTSUP is the one failure that leaves query-block usable. */
static int ovs_snapshot_list(BlockDriverState *bs, QEMUSnapshotInfo **psn_info)
{
    BDRVOpenvstorageState *s = bs->opaque;
    g_autoptr(GArray) all =
        g_array_new(false, true, sizeof(struct ovsshm_snapshot_info));
    OVSCall call = {
        .func = ovs_call_snapshot_list,
        .config = &s->config,
        .snapshots = all,
    };

    *psn_info = NULL;
    if (ovs_call(&call) < 0) {
        if (!s->reported_snapshots && call.ret != -ENOTSUP) {
            warn_report("openvstorage: cannot list the snapshots of volume "
                        "'%s': %s", s->config.volume, call.reason);
            s->reported_snapshots = true;
        }
        return -ENOTSUP;
    }
    s->reported_snapshots = false;
    if (all->len > 0) {
        *psn_info = g_new0(QEMUSnapshotInfo, all->len);
    }
    for (guint i = 0; i < all->len; i++) {
        ovs_snapshot_info(&(*psn_info)[i],
                          &g_array_index(all, struct ovsshm_snapshot_info, i));
    }
    return all->len;
}

/* ---- registration ---- */

#ifdef CONFIG_OPENVSTORAGE
#define OVS_QAPI_CREATE .bdrv_co_create = ovs_co_create,
#else
#define OVS_QAPI_CREATE
#endif

#define OVS_DRIVER_MEMBERS                                          \
    .instance_size                  = sizeof(BDRVOpenvstorageState), \
    .bdrv_parse_filename            = ovs_parse_filename,           \
    .bdrv_refresh_filename          = ovs_refresh_filename,         \
    .strong_runtime_opts            = ovs_strong_runtime_opts,      \
    .bdrv_file_open                 = ovs_file_open,                \
    .bdrv_close                     = ovs_close,                    \
    .bdrv_reopen_prepare            = ovs_reopen_prepare,           \
    .bdrv_reopen_commit             = ovs_reopen_commit,            \
    .bdrv_reopen_abort              = ovs_reopen_abort,             \
    .bdrv_inactivate                = ovs_inactivate,               \
    .bdrv_co_invalidate_cache       = ovs_co_invalidate_cache,      \
    .bdrv_co_create_opts            = ovs_co_create_opts,           \
    OVS_QAPI_CREATE                                                 \
    .create_opts                    = &ovs_create_opts,             \
    .bdrv_has_zero_init             = bdrv_has_zero_init_1,         \
    .has_variable_length            = true,                         \
    .bdrv_getlength                 = ovs_getlength,                \
    .bdrv_get_allocated_file_size   = ovs_get_allocated_file_size,  \
    .bdrv_co_truncate               = ovs_co_truncate,              \
    .bdrv_refresh_limits            = ovs_refresh_limits,           \
    .bdrv_get_info                  = ovs_get_info,                 \
    .bdrv_co_preadv                 = ovs_co_preadv,                \
    .bdrv_co_pwritev                = ovs_co_pwritev,               \
    .bdrv_co_pwrite_zeroes          = ovs_co_pwrite_zeroes,         \
    .bdrv_co_pdiscard               = ovs_co_pdiscard,              \
    .bdrv_co_flush_to_disk          = ovs_co_flush_to_disk,         \
    .bdrv_co_block_status           = ovs_co_block_status,          \
    .bdrv_io_unplug                 = ovs_io_unplug,                \
    .bdrv_attach_aio_context        = ovs_attach_aio_context,       \
    .bdrv_detach_aio_context        = ovs_detach_aio_context,       \
    .bdrv_snapshot_create           = ovs_snapshot_create,          \
    .bdrv_snapshot_goto             = ovs_snapshot_goto,            \
    .bdrv_snapshot_delete           = ovs_snapshot_delete,          \
    .bdrv_snapshot_list             = ovs_snapshot_list,

/* scripts/modules/module_block.py reads the names. */
static BlockDriver bdrv_openvstorage = {
    .format_name = "openvstorage",
    .protocol_name = "openvstorage",
    OVS_DRIVER_MEMBERS
};

static BlockDriver bdrv_openvstorage_shm = {
    .format_name = "openvstorage",
    .protocol_name = "openvstorage+shm",
    OVS_DRIVER_MEMBERS
};

static BlockDriver bdrv_openvstorage_tcp = {
    .format_name = "openvstorage",
    .protocol_name = "openvstorage+tcp",
    OVS_DRIVER_MEMBERS
};

static BlockDriver bdrv_openvstorage_rdma = {
    .format_name = "openvstorage",
    .protocol_name = "openvstorage+rdma",
    OVS_DRIVER_MEMBERS
};

static void bdrv_openvstorage_init(void)
{
    bdrv_register(&bdrv_openvstorage_rdma);
    bdrv_register(&bdrv_openvstorage_tcp);
    bdrv_register(&bdrv_openvstorage_shm);
    bdrv_register(&bdrv_openvstorage);
}

block_init(bdrv_openvstorage_init);
