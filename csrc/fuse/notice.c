/* SPDX-License-Identifier: MIT */
/*
 * Tells the kernel what clients of shared memory have done to volumes, so that it does not go on
 * believing what it was told before.
 *
 * A thread of its own, which no request waits for: such a message may have to wait for a request
 * that is under way.
 */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct mnt_notice {
    STAILQ_ENTRY(mnt_notice) link;
    enum srv_local_event event;
    char name[];
};

/* By the server's threads. */
static void
changed(void *arg, const char *name, enum srv_local_event event)
{
    struct ovsshm_mount *mount = arg;
    struct mnt_notices *notices = &mount->notices;
    struct mnt_notice *notice = malloc(sizeof(*notice) + strlen(name) + 1);
    if (!notice) {
        return; /* what the kernel knows ages in MNT_VALID_S */
    }
    notice->event = event;
    strcpy(notice->name, name);
    pthread_mutex_lock(&notices->lock);
    STAILQ_INSERT_TAIL(&notices->list, notice, link);
    pthread_cond_signal(&notices->not_empty);
    pthread_mutex_unlock(&notices->lock);
}

/* NULL: it is over. */
static struct mnt_notice *
take(struct mnt_notices *notices)
{
    pthread_mutex_lock(&notices->lock);
    while (STAILQ_EMPTY(&notices->list) && !notices->stopping) {
        pthread_cond_wait(&notices->not_empty, &notices->lock);
    }
    struct mnt_notice *notice = notices->stopping ? NULL : STAILQ_FIRST(&notices->list);
    if (notice) {
        STAILQ_REMOVE_HEAD(&notices->list, link);
    }
    pthread_mutex_unlock(&notices->lock);
    return notice;
}

/* The node at a path, with a reference; NULL: the kernel has not asked for it. */
static struct mnt_node *
find(struct ovsshm_mount *mount, char *path)
{
    struct mnt_node *node = mnt_node_of(mount, FUSE_ROOT_ID);
    char *rest;
    for (char *name = strtok_r(path, "/", &rest); name && node; name = strtok_r(NULL, "/", &rest)) {
        struct mnt_node *next = mnt_node_find(mount, node, name);
        mnt_node_put(mount, node, 1);
        node = next;
    }
    return node;
}

/* Is it still gone? Then what belonged to it goes, too. */
static bool
is_gone(struct ovsshm_mount *mount, const char *path, struct mnt_node *node)
{
    enum mnt_kind kind;
    struct stat st;
    pthread_rwlock_rdlock(&mount->names);
    bool gone = mnt_resolve(mount, path, &kind, &st) == -ENOENT;
    if (gone && !mount->backed) {
        mnt_files_unlink(mount, path);
    }
    if (gone && node) {
        mnt_node_unlink(mount, node);
    }
    pthread_rwlock_unlock(&mount->names);
    return gone;
}

static void
pass_on(struct ovsshm_mount *mount, const struct mnt_notice *notice)
{
    char path[MNT_PATH_BYTES];
    char words[MNT_PATH_BYTES];
    strcpy(path, notice->name);
    strcat(path, mount->params.volume_suffix);
    strcpy(words, path);
    struct mnt_node *node = find(mount, words);
    bool gone = notice->event == SRV_LOCAL_REMOVED && is_gone(mount, path, node);
    if (!node) {
        return;
    }
    if (gone) {
        const char *slash = strrchr(path, '/');
        const char *leaf = slash ? slash + 1 : path;
        fuse_lowlevel_notify_inval_entry(mount->session, mnt_node_ino(mount, node->parent), leaf,
                                         strlen(leaf));
    } else {
        fuse_lowlevel_notify_inval_inode(mount->session, mnt_node_ino(mount, node), 0, 0);
    }
    mnt_node_put(mount, node, 1);
}

static void *
run(void *arg)
{
    struct ovsshm_mount *mount = arg;
    struct mnt_notice *notice;
    while ((notice = take(&mount->notices))) {
        pass_on(mount, notice);
        free(notice);
    }
    srv_local_group_end(mount->server);
    return NULL;
}

int
mnt_notices_start(struct ovsshm_mount *mount)
{
    struct mnt_notices *notices = &mount->notices;
    STAILQ_INIT(&notices->list);
    pthread_mutex_init(&notices->lock, NULL);
    pthread_cond_init(&notices->not_empty, NULL);
    notices->stopping = false;
    int rc = mnt_thread_create(&notices->thread, run, mount);
    if (rc == 0) {
        notices->running = true;
        srv_local_watch(mount->server, changed, mount);
    }
    return rc;
}

void
mnt_notices_stop(struct ovsshm_mount *mount)
{
    struct mnt_notices *notices = &mount->notices;
    struct mnt_notice *notice;
    if (!notices->running) {
        return;
    }
    notices->running = false;
    srv_local_watch(mount->server, NULL, NULL);
    pthread_mutex_lock(&notices->lock);
    notices->stopping = true;
    pthread_cond_signal(&notices->not_empty);
    pthread_mutex_unlock(&notices->lock);
    pthread_join(notices->thread, NULL);
    while ((notice = STAILQ_FIRST(&notices->list))) {
        STAILQ_REMOVE_HEAD(&notices->list, link);
        free(notice);
    }
    pthread_cond_destroy(&notices->not_empty);
    pthread_mutex_destroy(&notices->lock);
}
