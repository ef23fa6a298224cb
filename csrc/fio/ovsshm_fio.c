/* SPDX-License-Identifier: MIT */
/*
 * A fio engine on the native client API: filename= names volumes.  For users: docs/FIO.md.
 *
 * fio -> setup (in the main process: sizes only) -> init (in the job's process or thread: sessions)
 *     -> iomem_alloc -> for each request: prep, queue; for each batch: commit; getevents, event
 *     -> iomem_free -> cleanup
 *
 * A job keeps its sessions from init to cleanup, whatever it does to its files meanwhile: its
 * buffers are in their memory.  All of it belongs to the job's own thread.
 */
#include <fio.h>

#include <openvstorage/shm.h>

#include "disks.h"
#include "options.h"

#define SECTOR_BYTES 512

/* fio's name for it. */
extern struct ioengine_ops ioengine __attribute__((visibility("default")));

/* ---- the job -------------------------------------------------------------------------------- */

struct job {
    struct disks disks;     /* by fio_file.fileno */
    struct io_u **prepared; /* since the last commit */
    unsigned prepared_count;
    struct ovsshm_completion *done; /* handed out by the last getevents, then those kept back */
    unsigned handed;
    unsigned done_count;
    bool buffers_private; /* fio's buffers are not in the first disk's memory */
};

/* Gives the job its error and the reason, which fio shows at the end. */
static int
fail(struct thread_data *td, int error, const char *reason)
{
    td_vmsg(td, error, reason, "openvstorage");
    return 1;
}

/* The same before there is any I/O, when nobody waits for the end. */
static int
fail_early(struct thread_data *td, int error, const char *reason)
{
    log_err("openvstorage: %s\n", reason);
    return fail(td, error, reason);
}

static uint64_t
power_of_two(uint64_t bytes)
{
    uint64_t power = 4096;
    while (power < bytes) {
        power *= 2;
    }
    return power;
}

/*
 * Room in each volume's memory for fio's buffers, and as much again for copies when there are
 * requests with buffers elsewhere.  Powers of two, as the memory is given out.
 */
static uint64_t
arena_bytes(struct thread_data *td)
{
    const struct options *o = td->eo;
    uint64_t bytes = td_max_bs(td) * td->o.iodepth;
    if (td->o.odirect || td->o.oatomic || td->o.mem_align) {
        bytes += 2 * page_size + td->o.mem_align; /* fio aligns them by itself then */
    }
    bytes = power_of_two(bytes);
    return o->copy || td->files_index == 1 ? bytes : 2 * bytes;
}

/* What the server lets us have of it, enough or not: copies take turns, buffers cannot. */
static int
arena_limit(struct thread_data *td, const struct ovsshm_conn *conn, uint64_t *bytes)
{
    const struct options *o = td->eo;
    uint64_t most = ovsshm_conn_hello(conn)->arena_bytes_max;
    char text[FIO_VERROR_SIZE];
    if (*bytes <= most) {
        return 0;
    }
    if (o->copy) {
        *bytes = most - most % page_size;
        return 0;
    }
    snprintf(text, sizeof(text),
             "the buffers need %llu MiB of shared memory, the server allows %llu: use copy=1",
             (unsigned long long)*bytes >> 20, (unsigned long long)most >> 20);
    return fail_early(td, EINVAL, text);
}

static int
connect_server(struct thread_data *td, struct ovsshm_conn **conn)
{
    const struct options *o = td->eo;
    int rc = ovsshm_connect(o->socket, conn);
    return rc ? fail_early(td, -rc, ovsshm_reason()) : 0;
}

/* ---- sessions ------------------------------------------------------------------------------- */

static int
open_disk(struct thread_data *td, struct ovsshm_conn *conn, const char *name)
{
    const struct options *o = td->eo;
    struct job *job = td->io_ops_data;
    struct ovsshm_open_params params = {
        .mode = td_write(td) || td_trim(td) ? OVSSHM_MODE_WRITE : OVSSHM_MODE_READ,
        .depth = td->o.iodepth,
        .arena_bytes = arena_bytes(td),
        .spin_ns_max = o->poll ? 0 : UINT64_MAX,
    };
    if (arena_limit(td, conn, &params.arena_bytes)) {
        return 1;
    }
    int rc = disks_open(&job->disks, conn, name, &params);
    return rc ? fail_early(td, -rc, ovsshm_reason()) : 0;
}

/* In one write each, for several jobs may do so at once. */
static void
counters_add(const struct thread_data *td, FILE *file, const struct disk *disk)
{
    struct ovsshm_queue_counters counters = ovsshm_queue_counters(disk->queue);
    fprintf(file,
            "{\"job\": %u, \"requests\": %llu, \"doorbells\": %llu, \"sleeps\": %llu, "
            "\"bounced_bytes\": %llu}\n",
            td->thread_number, (unsigned long long)counters.requests,
            (unsigned long long)counters.doorbells, (unsigned long long)counters.sleeps,
            (unsigned long long)counters.bounced_bytes);
    fflush(file);
}

static void
counters_write(const struct thread_data *td, const struct disks *disks)
{
    const struct options *o = td->eo;
    FILE *file = o->counters ? fopen(o->counters, "ae") : NULL;
    if (o->counters && !file) {
        log_err("openvstorage: cannot write to %s: %s\n", o->counters, strerror(errno));
    }
    for (unsigned i = 0; file && i < disks->count; i++) {
        counters_add(td, file, &disks->all[i]);
    }
    if (file) {
        fclose(file);
    }
}

static void
engine_cleanup(struct thread_data *td)
{
    struct job *job = td->io_ops_data;
    if (!job) {
        return;
    }
    counters_write(td, &job->disks);
    disks_destroy(&job->disks);
    free(job->prepared);
    free(job->done);
    free(job);
    td->io_ops_data = NULL;
}

static int
engine_init(struct thread_data *td)
{
    struct ovsshm_conn *conn;
    struct job *job = calloc(1, sizeof(*job));
    td->io_ops_data = job;
    if (job) {
        job->prepared = calloc(td->o.iodepth, sizeof(*job->prepared));
        job->done = calloc(td->o.iodepth, sizeof(*job->done));
    }
    if (!job || disks_create(&job->disks, td->files_index) || !job->prepared || !job->done) {
        return fail_early(td, ENOMEM, strerror(ENOMEM));
    }
    int rc = connect_server(td, &conn);
    if (rc) {
        return rc;
    }
    for (unsigned i = 0; rc == 0 && i < td->files_index; i++) {
        rc = open_disk(td, conn, td->files[i]->file_name);
    }
    ovsshm_disconnect(conn);
    return rc;
}

/* ---- sizes ---------------------------------------------------------------------------------- */

static int
stat_file(struct thread_data *td, struct ovsshm_conn *conn, struct fio_file *f)
{
    struct ovsshm_volume_info info;
    int rc = ovsshm_stat(conn, f->file_name, &info);
    if (rc) {
        return fail_early(td, -rc, ovsshm_reason());
    }
    f->filetype = FIO_TYPE_BLOCK; /* of a fixed size, and nothing for fio to create or unlink */
    f->real_file_size = info.size_bytes - info.size_bytes % SECTOR_BYTES;
    fio_file_set_size_known(f);
    return 0;
}

static int
engine_get_file_size(struct thread_data *td, struct fio_file *f)
{
    struct ovsshm_conn *conn;
    if (fio_file_size_known(f)) {
        return 0;
    }
    int rc = connect_server(td, &conn);
    if (rc == 0) {
        rc = stat_file(td, conn, f);
        ovsshm_disconnect(conn);
    }
    return rc;
}

/*
 * fio's structures depend on how it was configured.  It has just put our address into one, far
 * behind most that can differ: is it where we look for it?
 */
static bool
layout_ok(const struct thread_data *td)
{
    if (td->io_ops == &ioengine) {
        return true;
    }
    log_err("openvstorage: this fio is configured differently from the %s that the engine was "
            "built for: build the engine again (make fio-engine)\n",
            OVS_FIO_VERSION);
    return false;
}

static int
engine_setup(struct thread_data *td)
{
    struct ovsshm_conn *conn;
    if (!layout_ok(td)) {
        return 1;
    }
    if (fio_option_is_set(&td->o, mem_type)) {
        return fail_early(td, EINVAL, "mem= cannot be used; copy=1 gives private buffers");
    }
    int rc = connect_server(td, &conn);
    if (rc) {
        return rc;
    }
    for (unsigned i = 0; rc == 0 && i < td->files_index; i++) {
        rc = stat_file(td, conn, td->files[i]);
    }
    ovsshm_disconnect(conn);
    return rc;
}

/* The session has been there since init; only an I/O log names volumes later. */
static int
engine_open_file(struct thread_data *td, struct fio_file *f)
{
    const struct job *job = td->io_ops_data;
    if (f->fileno >= (int)job->disks.count) {
        return fail_early(td, ENOENT, "a volume that is not one of filename=");
    }
    FILE_SET_ENG_DATA(f, &job->disks.all[f->fileno]);
    return 0;
}

static int
engine_close_file(struct thread_data *td, struct fio_file *f)
{
    (void)td;
    FILE_SET_ENG_DATA(f, NULL);
    return 0;
}

/* ---- buffers -------------------------------------------------------------------------------- */

/*
 * fio has one set of buffers, which is in the memory of the first volume.  Reads of the others get
 * buffers in those volumes' memory (see engine_prep), as large as fio's, so that no read is copied;
 * what is written was composed before the file was known, so writes to the others are copied.
 */
static int
engine_iomem_alloc(struct thread_data *td, size_t bytes)
{
    const struct options *o = td->eo;
    struct job *job = td->io_ops_data;
    if (o->copy) {
        job->buffers_private = true;
        return posix_memalign((void **)&td->orig_buffer, page_size, bytes) != 0;
    }
    for (unsigned i = 0; i < job->disks.count; i++) {
        struct disk *disk = &job->disks.all[i];
        if (i == 0 || td_read(td)) {
            disk->buffers = ovsshm_buffer_alloc(disk->volume, bytes);
            if (!disk->buffers) {
                return fail_early(td, ENOMEM, ovsshm_reason());
            }
        }
    }
    td->orig_buffer = job->disks.all[0].buffers;
    return 0;
}

static void
engine_iomem_free(struct thread_data *td)
{
    const struct job *job = td->io_ops_data;
    if (job && job->buffers_private) {
        free(td->orig_buffer); /* the others end with their sessions */
    }
}

/* A read that has not begun may go into any buffer; fio refills what it writes after a read. */
static int
engine_prep(struct thread_data *td, struct io_u *io_u)
{
    const struct job *job = td->io_ops_data;
    const struct disk *disk = FILE_ENG_DATA(io_u->file);
    if (job->disks.count > 1 && io_u->ddir == DDIR_READ && disk->buffers &&
        io_u->xfer_buf == io_u->buf) {
        io_u->buf = disk->buffers + io_u->index * td_max_bs(td);
        io_u->xfer_buf = io_u->buf;
    }
    return 0;
}

/* ---- requests ------------------------------------------------------------------------------- */

static struct ovsshm_io
request_of(const struct thread_data *td, const struct io_u *io_u)
{
    const struct options *o = td->eo;
    struct ovsshm_io io = {.user_data = (uintptr_t)io_u};
    if (ddir_sync(io_u->ddir)) {
        io.op = OVSSHM_OP_FLUSH;
        return io;
    }
    io.offset_bytes = io_u->offset;
    io.length_bytes = io_u->xfer_buflen;
    switch (io_u->ddir) {
    case DDIR_READ:
        io.op = OVSSHM_OP_READ;
        io.buffer = io_u->xfer_buf;
        break;
    case DDIR_WRITE:
        io.op = OVSSHM_OP_WRITE;
        io.flags = td->o.sync_io ? OVSSHM_SQE_FUA : 0;
        io.buffer = io_u->xfer_buf;
        break;
    default: io.op = o->trim_op == TRIM_ZEROES ? OVSSHM_OP_WRITE_ZEROES : OVSSHM_OP_DISCARD; break;
    }
    return io;
}

static enum fio_q_status
engine_queue(struct thread_data *td, struct io_u *io_u)
{
    struct job *job = td->io_ops_data;
    struct disk *disk = FILE_ENG_DATA(io_u->file);
    struct ovsshm_io io = request_of(td, io_u);
    fio_ro_check(td, io_u);
    int rc = ovsshm_queue_prep(disk->queue, &io);
    if (rc == -EAGAIN && ovsshm_queue_in_flight(disk->queue)) {
        return FIO_Q_BUSY; /* no room for its copy: fio commits and reaps, then comes again */
    }
    if (rc) {
        io_u->error = -rc;
        fail(td, -rc, ovsshm_reason());
        return FIO_Q_COMPLETED;
    }
    job->prepared[job->prepared_count++] = io_u;
    return FIO_Q_QUEUED;
}

/* For the latencies: all of a batch starts when it is submitted. */
static void
mark_issued(struct thread_data *td, const struct job *job)
{
    struct timespec now;
    if (!fio_fill_issue_time(td)) {
        return;
    }
    fio_gettime(&now, NULL);
    for (unsigned i = 0; i < job->prepared_count; i++) {
        job->prepared[i]->issue_time = now;
        io_u_queued(td, job->prepared[i]);
    }
    if (td->o.read_iolog_file) {
        td->last_issue = now;
    }
}

static int
engine_commit(struct thread_data *td)
{
    struct job *job = td->io_ops_data;
    if (job->prepared_count == 0) {
        return 0;
    }
    mark_issued(td, job); /* before: from then on the server is faster than we are */
    for (unsigned i = 0; i < job->prepared_count; i++) {
        /* The first request of a volume submits the others of the batch too. */
        struct disk *disk = FILE_ENG_DATA(job->prepared[i]->file);
        ovsshm_queue_submit(disk->queue);
    }
    io_u_mark_submit(td, job->prepared_count);
    job->prepared_count = 0;
    return 0;
}

/* ---- completions ---------------------------------------------------------------------------- */

/* fio gets at most `max` at once; what has come in beyond that is kept for its next call. */
static int
engine_getevents(struct thread_data *td, unsigned min, unsigned max, const struct timespec *t)
{
    struct job *job = td->io_ops_data;
    int64_t timeout_ns = t ? t->tv_sec * 1000000000ll + t->tv_nsec : -1;
    job->done_count -= job->handed;
    memmove(job->done, job->done + job->handed, job->done_count * sizeof(*job->done));
    job->handed = 0;
    while (job->done_count < max) {
        unsigned room = td->o.iodepth - job->done_count;
        unsigned found = disks_wait(&job->disks, job->done + job->done_count, room,
                                    job->done_count < min ? timeout_ns : 0);
        job->done_count += found;
        if (found == 0 || job->done_count >= min) {
            break;
        }
    }
    if (job->done_count < min && !t) {
        log_err("openvstorage: fio waits for %u requests, and there are %u\n", min,
                job->done_count);
        return -EIO;
    }
    job->handed = job->done_count < max ? job->done_count : max;
    return (int)job->handed;
}

static struct io_u *
engine_event(struct thread_data *td, int index)
{
    const struct job *job = td->io_ops_data;
    const struct ovsshm_completion *completion = &job->done[index];
    struct io_u *io_u = (struct io_u *)(uintptr_t)completion->user_data;
    if (completion->result < 0) {
        io_u->error = (unsigned)-completion->result;
        io_u->resid = io_u->xfer_buflen;
    } else if (io_u->ddir == DDIR_READ || io_u->ddir == DDIR_WRITE) {
        io_u->resid = io_u->xfer_buflen - (unsigned long long)completion->result;
    }
    return io_u;
}

/* What the errno of a completion says about it; fio frees the text. */
static char *
engine_errdetails(struct io_u *io_u)
{
    const struct disk *disk = FILE_ENG_DATA(io_u->file);
    char text[256];
    switch (io_u->error) {
    case ENOTCONN:
        ovsshm_volume_state(disk->volume);
        snprintf(text, sizeof(text), "openvstorage: %s", ovsshm_reason());
        break;
    case EINVAL:
        snprintf(text, sizeof(text), "openvstorage: offsets and lengths must be multiples of %u",
                 ovsshm_volume_limits(disk->volume)->block_bytes);
        break;
    case EFBIG:
        snprintf(text, sizeof(text), "openvstorage: the volume ends at %llu",
                 (unsigned long long)ovsshm_volume_bytes(disk->volume));
        break;
    case EOPNOTSUPP:
        snprintf(text, sizeof(text), "openvstorage: the server's store cannot do that");
        break;
    default:
        snprintf(text, sizeof(text), "openvstorage: the server answered: %s",
                 strerror((int)io_u->error));
        break;
    }
    return strdup(text);
}

/* ---- the engine ----------------------------------------------------------------------------- */

struct ioengine_ops ioengine = {
    .name = "openvstorage",
    .version = FIO_IOOPS_VERSION,
    .flags = FIO_DISKLESSIO | FIO_NOEXTEND | FIO_NODISKUTIL | FIO_NO_OFFLOAD |
             FIO_ASYNCIO_SETS_ISSUE_TIME,
    .setup = engine_setup,
    .init = engine_init,
    .prep = engine_prep,
    .queue = engine_queue,
    .commit = engine_commit,
    .getevents = engine_getevents,
    .event = engine_event,
    .errdetails = engine_errdetails,
    .cleanup = engine_cleanup,
    .open_file = engine_open_file,
    .close_file = engine_close_file,
    .get_file_size = engine_get_file_size,
    .iomem_alloc = engine_iomem_alloc,
    .iomem_free = engine_iomem_free,
    .option_struct_size = sizeof(struct options),
    .options = ovsshm_fio_options,
};

/*
 * The engine goes with one version of fio: nothing of fio's structures is promised to stay, not
 * even while its own number for engines does.  Before fio has looked at anything of ours.
 */
__attribute__((constructor)) static void
version_check(void)
{
    if (strcmp(fio_version_string, OVS_FIO_VERSION) != 0) {
        log_err("openvstorage: this engine was built for %s and cannot be used with %s: build it "
                "again (make fio-engine)\n",
                OVS_FIO_VERSION, fio_version_string);
        ioengine.version = -1; /* fio refuses it */
    }
}
