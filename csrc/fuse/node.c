/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS_MIN 256

static unsigned
hash(const struct mnt_node *parent, const char *name)
{
    uint64_t value = (uintptr_t)parent * 0x9e3779b97f4a7c15u;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
        value = (value ^ *p) * 0x100000001b3u;
    }
    return (unsigned)(value ^ value >> 32);
}

static struct mnt_node **
bucket(struct mnt_tree *tree, const struct mnt_node *parent, const char *name)
{
    return &tree->buckets[hash(parent, name) & (tree->bucket_count - 1)];
}

/* Stays as it is when there is no memory. */
static void
grow(struct mnt_tree *tree)
{
    struct mnt_node **old = tree->buckets;
    unsigned old_count = tree->bucket_count;
    struct mnt_node **buckets = calloc(2 * old_count, sizeof(struct mnt_node *));
    if (!buckets) {
        return;
    }
    tree->buckets = buckets;
    tree->bucket_count = 2 * old_count;
    for (unsigned i = 0; i < old_count; i++) {
        for (struct mnt_node *node = old[i], *next; node; node = next) {
            next = node->next;
            struct mnt_node **head = bucket(tree, node->parent, node->name);
            node->next = *head;
            *head = node;
        }
    }
    free(old);
}

static void
link_node(struct mnt_tree *tree, struct mnt_node *node)
{
    if (tree->node_count >= tree->bucket_count) {
        grow(tree);
    }
    struct mnt_node **head = bucket(tree, node->parent, node->name);
    node->next = *head;
    *head = node;
    node->linked = true;
    tree->node_count++;
}

static void
unlink_node(struct mnt_tree *tree, struct mnt_node *node)
{
    if (!node->linked) {
        return;
    }
    struct mnt_node **at = bucket(tree, node->parent, node->name);
    while (*at != node) {
        at = &(*at)->next;
    }
    *at = node->next;
    node->linked = false;
    tree->node_count--;
}

static struct mnt_node *
find(struct mnt_tree *tree, const struct mnt_node *parent, const char *name)
{
    struct mnt_node *node = *bucket(tree, parent, name);
    while (node && (node->parent != parent || strcmp(node->name, name) != 0)) {
        node = node->next;
    }
    return node;
}

/* I/O is frequent and would keep out who waits to change something. */
static void
init_node(struct mnt_node *node, uint64_t id, enum mnt_kind kind)
{
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&node->io, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    LIST_INIT(&node->handles);
    node->references = 1;
    node->id = id;
    node->kind = kind;
}

static void
free_node(struct mnt_node *node)
{
    pthread_rwlock_destroy(&node->io);
    free(node->name);
    free(node);
}

static struct mnt_node *
make(struct mnt_tree *tree, struct mnt_node *parent, const char *name, enum mnt_kind kind)
{
    struct mnt_node *node = calloc(1, sizeof(*node));
    char *copy = strdup(name);
    if (!node || !copy) {
        free(node);
        free(copy);
        return NULL;
    }
    init_node(node, ++tree->ids, kind);
    node->name = copy;
    node->parent = parent;
    parent->references++;
    LIST_INSERT_HEAD(&tree->all, node, all);
    link_node(tree, node);
    return node;
}

int
mnt_tree_init(struct ovsshm_mount *mount)
{
    struct mnt_tree *tree = &mount->tree;
    tree->bucket_count = BUCKETS_MIN;
    tree->buckets = calloc(BUCKETS_MIN, sizeof(struct mnt_node *));
    if (!tree->buckets) {
        return -ENOMEM;
    }
    pthread_mutex_init(&tree->lock, NULL);
    LIST_INIT(&tree->all);
    tree->ids = FUSE_ROOT_ID;
    init_node(&tree->root, FUSE_ROOT_ID, MNT_DIRECTORY);
    tree->root.linked = true;
    return 0;
}

void
mnt_tree_close(struct ovsshm_mount *mount)
{
    struct mnt_node *node;
    pthread_mutex_lock(&mount->tree.lock);
    LIST_FOREACH(node, &mount->tree.all, all)
    {
        srv_local_close(node->local);
        node->local = NULL;
    }
    pthread_mutex_unlock(&mount->tree.lock);
}

static void
free_handles(struct mnt_node *node)
{
    struct mnt_handle *handle;
    while ((handle = LIST_FIRST(&node->handles))) {
        LIST_REMOVE(handle, link);
        if (handle->fd >= 0) {
            close(handle->fd);
        }
        free(handle);
    }
}

void
mnt_tree_destroy(struct ovsshm_mount *mount)
{
    struct mnt_tree *tree = &mount->tree;
    struct mnt_node *node;
    if (!tree->buckets) {
        return;
    }
    while ((node = LIST_FIRST(&tree->all))) {
        LIST_REMOVE(node, all);
        free_handles(node);
        free_node(node);
    }
    free(tree->buckets);
    pthread_rwlock_destroy(&tree->root.io);
    pthread_mutex_destroy(&tree->lock);
}

static void
put(struct mnt_tree *tree, struct mnt_node *node, uint64_t references)
{
    while (node != &tree->root) {
        node->references -= references < node->references ? references : node->references;
        if (node->references) {
            return;
        }
        struct mnt_node *parent = node->parent;
        unlink_node(tree, node);
        LIST_REMOVE(node, all);
        free_node(node);
        node = parent;
        references = 1;
    }
}

void
mnt_node_put(struct ovsshm_mount *mount, struct mnt_node *node, uint64_t references)
{
    pthread_mutex_lock(&mount->tree.lock);
    put(&mount->tree, node, references);
    pthread_mutex_unlock(&mount->tree.lock);
}

struct mnt_node *
mnt_node_of(struct ovsshm_mount *mount, fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? &mount->tree.root : (struct mnt_node *)(uintptr_t)ino;
}

fuse_ino_t
mnt_node_ino(struct ovsshm_mount *mount, const struct mnt_node *node)
{
    return node == &mount->tree.root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)node;
}

int
mnt_node_get(struct ovsshm_mount *mount, struct mnt_node *parent, const char *name,
             enum mnt_kind kind, struct mnt_node **out)
{
    struct mnt_tree *tree = &mount->tree;
    pthread_mutex_lock(&tree->lock);
    struct mnt_node *node = find(tree, parent, name);
    if (node && node->kind != kind) {
        unlink_node(tree, node); /* something else has come in its place */
        node = NULL;
    }
    if (node) {
        node->references++;
    } else {
        node = make(tree, parent, name, kind);
    }
    pthread_mutex_unlock(&tree->lock);
    *out = node;
    return node ? 0 : -ENOMEM;
}

struct mnt_node *
mnt_node_find(struct ovsshm_mount *mount, struct mnt_node *parent, const char *name)
{
    pthread_mutex_lock(&mount->tree.lock);
    struct mnt_node *node = find(&mount->tree, parent, name);
    if (node) {
        node->references++;
    }
    pthread_mutex_unlock(&mount->tree.lock);
    return node;
}

void
mnt_node_unlink(struct ovsshm_mount *mount, struct mnt_node *node)
{
    pthread_mutex_lock(&mount->tree.lock);
    unlink_node(&mount->tree, node);
    pthread_mutex_unlock(&mount->tree.lock);
}

int
mnt_node_move(struct ovsshm_mount *mount, struct mnt_node *node, struct mnt_node *parent,
              const char *name)
{
    struct mnt_tree *tree = &mount->tree;
    char *copy = strdup(name);
    if (!copy) {
        return -ENOMEM;
    }
    pthread_mutex_lock(&tree->lock);
    struct mnt_node *replaced = find(tree, parent, name);
    if (replaced && replaced != node) {
        unlink_node(tree, replaced);
    }
    struct mnt_node *old_parent = node->parent;
    unlink_node(tree, node);
    free(node->name);
    node->name = copy;
    node->parent = parent;
    parent->references++;
    link_node(tree, node);
    put(tree, old_parent, 1);
    pthread_mutex_unlock(&tree->lock);
    return 0;
}

/* Puts a component in front of what is at *start. */
static bool
prepend(const char *path, char **start, const char *name)
{
    size_t length = strlen(name);
    bool slash = **start != '\0';
    if ((size_t)(*start - path) < length + slash) {
        return false;
    }
    if (slash) {
        *--*start = '/';
    }
    *start -= length;
    memcpy(*start, name, length);
    return true;
}

/* Under the lock. */
static int
path_of(const struct mnt_tree *tree, const struct mnt_node *node, const char *name,
        char path[MNT_PATH_BYTES])
{
    char *start = &path[MNT_PATH_BYTES - 1];
    int rc = 0;
    *start = '\0';
    if (name && (strlen(name) > MNT_NAME_MAX || !prepend(path, &start, name))) {
        return -ENAMETOOLONG;
    }
    for (; rc == 0 && node != &tree->root; node = node->parent) {
        rc = !node->linked ? -ENOENT : prepend(path, &start, node->name) ? 0 : -ENAMETOOLONG;
    }
    memmove(path, start, strlen(start) + 1);
    return rc;
}

int
mnt_node_path(struct ovsshm_mount *mount, const struct mnt_node *node, const char *name,
              char path[MNT_PATH_BYTES])
{
    pthread_mutex_lock(&mount->tree.lock);
    int rc = path_of(&mount->tree, node, name, path);
    pthread_mutex_unlock(&mount->tree.lock);
    return rc;
}

static bool
is_written(const struct mnt_node *node)
{
    const struct mnt_handle *handle;
    LIST_FOREACH(handle, &node->handles, link)
    {
        if (handle->writable) {
            return true;
        }
    }
    return false;
}

uint64_t
mnt_tree_next_written(struct ovsshm_mount *mount, uint64_t after, char path[MNT_PATH_BYTES])
{
    const struct mnt_node *node;
    const struct mnt_node *next = NULL;
    pthread_mutex_lock(&mount->tree.lock);
    LIST_FOREACH(node, &mount->tree.all, all)
    {
        if (node->id > after && (!next || node->id < next->id) && node->linked &&
            is_written(node)) {
            next = node;
        }
    }
    uint64_t id = next ? next->id : 0;
    if (next && path_of(&mount->tree, next, NULL, path)) {
        path[0] = '\0';
    }
    pthread_mutex_unlock(&mount->tree.lock);
    return id;
}

void
mnt_handle_link(struct ovsshm_mount *mount, struct mnt_handle *handle)
{
    pthread_mutex_lock(&mount->tree.lock);
    LIST_INSERT_HEAD(&handle->node->handles, handle, link);
    handle->node->references++;
    pthread_mutex_unlock(&mount->tree.lock);
}

void
mnt_handle_unlink(struct ovsshm_mount *mount, struct mnt_handle *handle)
{
    pthread_mutex_lock(&mount->tree.lock);
    LIST_REMOVE(handle, link);
    put(&mount->tree, handle->node, 1);
    pthread_mutex_unlock(&mount->tree.lock);
}
