/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shared/atomic.h"

#define THREADS_DEFAULT 10
#define THREADS_MAX 256
#define REQUEST_BYTES_MAX 1048576u
#define BACKGROUND_DEFAULT 128
#define BACKGROUND_MAX 65535

#define DEFAULT(member, value) (params->member = params->member ? params->member : (value))

static int
check_params(struct ovsshm_mount_params *params, struct ovsshm_error *error)
{
    DEFAULT(volume_suffix, "");
    DEFAULT(threads, THREADS_DEFAULT);
    DEFAULT(max_write, REQUEST_BYTES_MAX);
    DEFAULT(max_background, BACKGROUND_DEFAULT);
    if (!params->path || !params->path[0]) {
        return srv_error(error, -EINVAL, "the mount needs a path");
    }
    if (params->threads > THREADS_MAX) {
        return srv_error(error, -EINVAL, "threads of the mount is %u, it must be 1 to %u",
                         params->threads, THREADS_MAX);
    }
    if (params->max_write % 4096 || params->max_write > REQUEST_BYTES_MAX) {
        return srv_error(error, -EINVAL,
                         "max_write of the mount is %u, it must be a multiple of 4096 up to %u",
                         params->max_write, REQUEST_BYTES_MAX);
    }
    if (params->max_background > BACKGROUND_MAX) {
        return srv_error(error, -EINVAL, "max_background of the mount is %u, it must be 1 to %u",
                         params->max_background, BACKGROUND_MAX);
    }
    if (strchr(params->volume_suffix, '/') || strlen(params->volume_suffix) > 32) {
        return srv_error(error, -EINVAL, "the suffix of volumes is at most 32 bytes without \"/\"");
    }
    return 0;
}

/* The caller's texts are good for the call only. */
static int
copy_params(struct ovsshm_mount *mount, const struct ovsshm_mount_params *params,
            struct ovsshm_error *error)
{
    struct ovsshm_mount_params *own = &mount->params;
    *own = *params;
    own->path = strdup(params->path);
    own->volume_suffix = strdup(params->volume_suffix);
    own->files = params->files ? strdup(params->files) : NULL;
    return own->path && own->volume_suffix && !own->files == !params->files
               ? 0
               : srv_error(error, -ENOMEM, "out of memory");
}

static int
make_session(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    /* The mount options are for fusermount3. */
    const char *words[] = {
        "openvstorage",
        "-o",
        "default_permissions,nosuid,nodev,fsname=openvstorage,subtype=openvstorage",
        "-o",
        mount->params.allow_other ? "allow_other" : "auto_cache",
    };
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    int count = mount->params.allow_other ? 5 : 3;
    int rc = 0;
    for (int i = 0; i < count && rc == 0; i++) {
        rc = fuse_opt_add_arg(&args, words[i]);
    }
    if (rc == 0) {
        mount->session = fuse_session_new(&args, &mnt_ops, sizeof(mnt_ops), mount);
    }
    fuse_opt_free_args(&args);
    return mount->session ? 0 : srv_error(error, -ENOMEM, "cannot make a FUSE session");
}

int
ovsshm_mount_create(struct ovsshm_server *server, const struct ovsshm_mount_params *params,
                    struct ovsshm_mount **out, struct ovsshm_error *error)
{
    struct ovsshm_mount_params effective = *params;
    int rc = check_params(&effective, error);
    if (rc) {
        return rc;
    }
    struct ovsshm_mount *mount = calloc(1, sizeof(*mount));
    if (!mount) {
        return srv_error(error, -ENOMEM, "out of memory");
    }
    mount->server = server;
    mount->files_fd = mount->watcher_fd = -1;
    clock_gettime(CLOCK_REALTIME, &mount->created);
    pthread_mutex_init(&mount->loop.lock, NULL);
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&mount->names, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    rc = mnt_tree_init(mount) ? srv_error(error, -ENOMEM, "out of memory") : 0;
    rc = rc ? rc : copy_params(mount, &effective, error);
    rc = rc ? rc : mnt_point_check(mount, error);
    rc = rc ? rc : mnt_files_init(mount, error);
    rc = rc ? rc : mnt_uring_choose(mount, error);
    rc = rc ? rc : make_session(mount, error);
    if (rc) {
        ovsshm_mount_destroy(mount);
        return rc;
    }
    *out = mount;
    return 0;
}

static const char *
cache_name(enum ovsshm_mount_cache cache)
{
    return cache == OVSSHM_MOUNT_CACHE_NONE   ? "none"
           : cache == OVSSHM_MOUNT_CACHE_AUTO ? "auto"
                                              : "writeback";
}

int
ovsshm_mount_start(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    const struct ovsshm_mount_params *params = &mount->params;
    int rc = mnt_point_mount(mount, error);
    if (rc) {
        return rc;
    }
    mount->running = true;
    rc = mnt_watcher_start(mount);
    if (rc) {
        mnt_warn(mount, "nobody will unmount \"%s\" if this process is killed: %s", mount->point,
                 strerror(-rc));
    }
    rc = mnt_loop_start(mount);
    rc = rc ? rc : mnt_notices_start(mount);
    if (rc) {
        ovsshm_mount_stop(mount);
        return srv_error(error, rc, "cannot start the threads of the mount: %s", strerror(-rc));
    }
    mnt_info(mount, "mounted at \"%s\": cache %s, up to %u threads%s", mount->point,
             cache_name(params->cache), params->threads,
             params->threads == 1 ? ""
             : params->shared_fd  ? " on one descriptor"
                                  : " with a descriptor each");
    return 0;
}

void
mnt_ended(struct ovsshm_mount *mount)
{
    ovsshm_store_release(&mount->unmounted, true);
    mnt_tree_close(mount); /* the kernel does not say any more that files were closed */
    mnt_info(mount, "\"%s\" has been unmounted by somebody else", mount->point);
    if (mount->params.unmounted) {
        mount->params.unmounted(mount->params.arg);
    }
}

void
ovsshm_mount_stop(struct ovsshm_mount *mount)
{
    if (!mount->running) {
        return;
    }
    mount->running = false;
    mnt_notices_stop(mount);
    pthread_mutex_lock(&mount->loop.lock);
    mount->loop.stopping = true; /* its end is our wish now */
    pthread_mutex_unlock(&mount->loop.lock);
    if (!ovsshm_load_acquire(&mount->unmounted)) {
        mnt_point_unmount(mount);
    }
    mnt_loop_stop(mount);
    mnt_watcher_stop(mount);
    mnt_tree_close(mount);
}

void
ovsshm_mount_destroy(struct ovsshm_mount *mount)
{
    if (!mount) {
        return;
    }
    ovsshm_mount_stop(mount);
    if (mount->session) {
        fuse_session_destroy(mount->session); /* closes the connection */
    }
    mnt_files_destroy(mount);
    mnt_tree_destroy(mount);
    pthread_rwlock_destroy(&mount->names);
    pthread_mutex_destroy(&mount->loop.lock);
    free(mount->point);
    free((void *)(uintptr_t)mount->params.path);
    free((void *)(uintptr_t)mount->params.volume_suffix);
    free((void *)(uintptr_t)mount->params.files);
    free(mount);
}
