/* SPDX-License-Identifier: MIT */
/* What a connection and a volume share: calls that both make on their own session. */
#ifndef OVSSHM_CONN_H
#define OVSSHM_CONN_H

#include <openvstorage/shm.h>

#include "session.h"

struct ovsshm_conn {
    struct ovsshm_session session;
};

/* Copies a volume name into a message's field, zeros behind it.  -EINVAL, -ENAMETOOLONG. */
int ovsshm_put_volume_name(char *field, const char *name);

int ovsshm_session_stat(struct ovsshm_session *session, const char *name,
                        struct ovsshm_volume_info *info);
int ovsshm_session_resize(struct ovsshm_session *session, const char *name, uint64_t size_bytes);
int ovsshm_session_set_mode(struct ovsshm_session *session, uint32_t mode);

#endif
