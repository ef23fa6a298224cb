/* SPDX-License-Identifier: MIT */
/*
 * Names in order, for stores that keep their volumes in memory.
 *
 * Threads: the user's lock.  Ownership: entries live inside the user's structures.
 */
#ifndef OVSSHM_STORES_CATALOG_H
#define OVSSHM_STORES_CATALOG_H

#include <stdbool.h>
#include <string.h>
#include <sys/queue.h>

#include <openvstorage/shm_wire.h>

struct catalog_entry {
    LIST_ENTRY(catalog_entry) link;
    char name[OVSSHM_NAME_BYTES];
};
LIST_HEAD(catalog, catalog_entry);

/* The entry of this name, or NULL. */
static inline struct catalog_entry *
catalog_find(struct catalog *catalog, const char *name)
{
    struct catalog_entry *entry;
    LIST_FOREACH(entry, catalog, link)
    {
        if (!strcmp(entry->name, name)) {
            return entry;
        }
    }
    return NULL;
}

/* The first entry whose name comes after this one; NULL: the first of all. */
static inline struct catalog_entry *
catalog_after(struct catalog *catalog, const char *name)
{
    struct catalog_entry *entry;
    LIST_FOREACH(entry, catalog, link)
    {
        if (!name || strcmp(entry->name, name) > 0) {
            return entry;
        }
    }
    return NULL;
}

/* entry->name is set and is not in the catalog. */
static inline void
catalog_insert(struct catalog *catalog, struct catalog_entry *entry)
{
    struct catalog_entry *last = NULL;
    struct catalog_entry *other;
    LIST_FOREACH(other, catalog, link)
    {
        if (strcmp(other->name, entry->name) > 0) {
            break;
        }
        last = other;
    }
    if (last) {
        LIST_INSERT_AFTER(last, entry, link);
    } else {
        LIST_INSERT_HEAD(catalog, entry, link);
    }
}

/* An entry gets another name, which is not in the catalog. */
static inline void
catalog_rename(struct catalog *catalog, struct catalog_entry *entry, const char *name)
{
    LIST_REMOVE(entry, link);
    strcpy(entry->name, name);
    catalog_insert(catalog, entry);
}

#endif
