/* SPDX-License-Identifier: MIT */
/*
 * The historical API of libovsvolumedriver: the names, structures and errno values that programs
 * written for the Open vStorage volume driver know, over the same shared-memory data path as the
 * native API (<openvstorage/shm.h>).  The manual page libovsvolumedriver(3) has every function with
 * its errors, and where this library differs from the old one.
 *
 * Threads: calls on one context may come from any number of threads, except ovs_ctx_init() and
 * ovs_ctx_destroy(), which must be alone on their context.  Callbacks run on threads of the
 * library.
 *
 * Ownership: who creates an object releases it, before the context it belongs to.  Memory named by
 * an I/O, and its ovs_aiocb, belong to the library until the I/O has completed.
 *
 * Errors: int and ssize_t functions return -1 and set errno, pointer functions return NULL and set
 * errno.  The one exception is ovs_aio_error(), which returns the error number.
 */
#ifndef __LIB_OVS_VOLUMEDRIVER_H_
#define __LIB_OVS_VOLUMEDRIVER_H_

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ovs_buffer ovs_buffer_t;
typedef struct ovs_context_t ovs_ctx_t;
typedef struct ovs_context_attr_t ovs_ctx_attr_t;
typedef struct ovs_aio_request ovs_aio_request;
typedef struct ovs_completion ovs_completion_t;

typedef void (*ovs_callback_t)(ovs_completion_t *cb, void *arg);

struct ovs_aiocb {
    void *aio_buf;
    off_t aio_offset;
    size_t aio_nbytes;
    ovs_aio_request *request_; /* the library's: set by a submission, cleared by ovs_aio_finish() */
};

typedef struct ovs_snapshot_info {
    const char *name; /* NULL ends a list */
    uint64_t size;    /* of the volume when the snapshot was made */
} ovs_snapshot_info_t;

/* ---- context attributes ------------------------------------------------------------------ */

ovs_ctx_attr_t *ovs_ctx_attr_new(void);
int ovs_ctx_attr_destroy(ovs_ctx_attr_t *attr);

/* transport: NULL or "shm" (host and port are ignored), "tcp", "rdma". */
int ovs_ctx_attr_set_transport(ovs_ctx_attr_t *attr, const char *transport, const char *host,
                               int port);
int ovs_ctx_attr_set_network_qdepth(ovs_ctx_attr_t *attr, const uint64_t qdepth);
int ovs_ctx_attr_enable_ha(ovs_ctx_attr_t *attr);

/* ---- context ----------------------------------------------------------------------------- */

/* Local: contacts no server.  The attributes may be destroyed afterwards. */
ovs_ctx_t *ovs_ctx_new(const ovs_ctx_attr_t *attr);

/* Opens a volume; oflag is O_RDONLY, O_WRONLY or O_RDWR.  EACCES missing, EBUSY open elsewhere. */
int ovs_ctx_init(ovs_ctx_t *ctx, const char *volume_name, int oflag);

/* Waits for all I/O and callbacks of the context, closes the volume, frees the context. */
int ovs_ctx_destroy(ovs_ctx_t *ctx);

/* ---- volumes: need a context, not an open one -------------------------------------------- */

int ovs_create_volume(ovs_ctx_t *ctx, const char *volume_name, uint64_t size);
int ovs_remove_volume(ovs_ctx_t *ctx, const char *volume_name);
int ovs_truncate_volume(ovs_ctx_t *ctx, const char *volume_name, uint64_t length);

/* names gets all names, each with its NUL; ERANGE: *size is too small and says what is needed. */
int ovs_list_volumes(ovs_ctx_t *ctx, char *names, size_t *size);

/* These two are about the open volume. */
int ovs_truncate(ovs_ctx_t *ctx, uint64_t length);
int ovs_stat(ovs_ctx_t *ctx, struct stat *st);

/* ---- snapshots --------------------------------------------------------------------------- */

/* timeout in seconds for the snapshot to be safe: > 0 at most, 0 for ever, < 0 do not wait. */
int ovs_snapshot_create(ovs_ctx_t *ctx, const char *volume_name, const char *snapshot_name,
                        const int64_t timeout);
int ovs_snapshot_rollback(ovs_ctx_t *ctx, const char *volume_name, const char *snapshot_name);
int ovs_snapshot_remove(ovs_ctx_t *ctx, const char *volume_name, const char *snapshot_name);
int ovs_snapshot_is_synced(ovs_ctx_t *ctx, const char *volume_name, const char *snapshot_name);

/* Needs room for one entry more than there are snapshots; ERANGE: *max_snaps says how many. */
int ovs_snapshot_list(ovs_ctx_t *ctx, const char *volume_name, ovs_snapshot_info_t *snap_list,
                      int *max_snaps);
void ovs_snapshot_list_free(ovs_snapshot_info_t *snap_list);

/* ---- buffers of an open context: I/O on them is not copied ------------------------------- */

ovs_buffer_t *ovs_allocate(ovs_ctx_t *ctx, size_t size);
void *ovs_buffer_data(ovs_buffer_t *buf);
size_t ovs_buffer_size(ovs_buffer_t *buf);
int ovs_deallocate(ovs_ctx_t *ctx, ovs_buffer_t *buf);

/* ---- I/O on any memory, at any offset and length ----------------------------------------- */

ssize_t ovs_read(ovs_ctx_t *ctx, void *buf, size_t nbytes, off_t offset);
ssize_t ovs_write(ovs_ctx_t *ctx, const void *buf, size_t nbytes, off_t offset);
int ovs_flush(ovs_ctx_t *ctx);

int ovs_aio_read(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp);
int ovs_aio_write(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp);
int ovs_aio_readcb(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp, ovs_completion_t *completion);
int ovs_aio_writecb(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp, ovs_completion_t *completion);
int ovs_aio_flushcb(ovs_ctx_t *ctx, ovs_completion_t *completion);

/* timeout: a point in time of CLOCK_REALTIME, not an interval; NULL: none. */
int ovs_aio_suspend(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp, const struct timespec *timeout);
int ovs_aio_error(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp);
ssize_t ovs_aio_return(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp);
int ovs_aio_finish(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp);
int ovs_aio_cancel(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp);

/* ---- completions: one per operation ------------------------------------------------------ */

ovs_completion_t *ovs_aio_create_completion(ovs_callback_t complete_cb, void *arg);
ssize_t ovs_aio_return_completion(ovs_completion_t *completion);

/* Waits for ovs_aio_signal_completion(), which the callback calls as its last act. */
int ovs_aio_wait_completion(ovs_completion_t *completion, const struct timespec *timeout);
int ovs_aio_signal_completion(ovs_completion_t *completion);
int ovs_aio_release_completion(ovs_completion_t *completion);

#ifdef __cplusplus
}
#endif

#endif
