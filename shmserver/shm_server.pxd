# SPDX-License-Identifier: MIT
"""Names of <openvstorage/shm_server.h> that the module uses; the C compiler has the values."""

from libc.stdint cimport uint32_t, uint64_t
from posix.types cimport gid_t, uid_t

cdef extern from "openvstorage/shm.h" nogil:
    int ovsshm_default_socket(char *path, size_t path_bytes)
    const char *ovsshm_reason()

cdef extern from "openvstorage/shm_server.h" nogil:
    enum:
        OVSSHM_DEPTH_MAX
        OVSSHM_QUEUES_MAX
        OVSSHM_PAGE_BYTES

    enum ovsshm_log_level:
        OVSSHM_LOG_ERROR
        OVSSHM_LOG_WARNING
        OVSSHM_LOG_INFO
        OVSSHM_LOG_DEBUG

    struct ovsshm_error:
        char *reason

    ctypedef void (*ovsshm_log_fn)(void *arg, ovsshm_log_level level, const char *line) noexcept nogil

    struct ovsshm_log:
        ovsshm_log_fn write
        void *arg

    struct ovsshm_store_option:
        const char *key
        const char *value

    struct ovsshm_store_params:
        const char *pool
        const ovsshm_store_option *options
        unsigned int option_count
        ovsshm_log log

    struct ovsshm_store:
        uint64_t capabilities

    struct ovsshm_store_type:
        const char *name
        const char *summary
        const char *options
        int (*create)(const ovsshm_store_params *params, ovsshm_store **store,
                      ovsshm_error *error) noexcept nogil
        void (*destroy)(ovsshm_store *store) noexcept nogil

    const ovsshm_store_type *const ovsshm_store_types[]
    const ovsshm_store_type *ovsshm_store_find(const char *name)
    int ovsshm_store_load(const char *path, const ovsshm_store_type **type, ovsshm_error *error)

    struct ovsshm_status:
        uint64_t uptime_ns
        uint32_t connections
        uint32_t sessions
        uint32_t reactors
        uint32_t pid
        uint64_t requests
        uint64_t errors
        uint64_t read_bytes
        uint64_t written_bytes
        uint64_t doorbells
        uint64_t sleeps
        uint64_t violations

    struct ovsshm_server:
        pass

    struct ovsshm_server_params:
        const char *socket_path
        uint32_t socket_mode
        uint32_t reactors
        bint socket_owner_set
        uid_t socket_uid
        gid_t socket_gid
        const uid_t *allow_uids
        unsigned int allow_uid_count
        const gid_t *allow_gids
        unsigned int allow_gid_count
        uint32_t depth_max
        uint32_t queues_max
        uint32_t request_bytes_max
        uint32_t connections_max
        uint64_t arena_bytes_max
        uint64_t spin_ns_max
        ovsshm_log log

    int ovsshm_server_create(const ovsshm_server_params *params, ovsshm_store *store,
                             ovsshm_server **server, ovsshm_error *error)
    int ovsshm_server_start(ovsshm_server *server, ovsshm_error *error)
    int ovsshm_server_stop(ovsshm_server *server, uint64_t drain_ns)
    void ovsshm_server_destroy(ovsshm_server *server)
    void ovsshm_server_status(ovsshm_server *server, ovsshm_status *status)
    const ovsshm_server_params *ovsshm_server_effective(const ovsshm_server *server)
