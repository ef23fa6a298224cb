# SPDX-License-Identifier: MIT
"""Names of <openvstorage/shm_server.h> that the module uses; the C compiler has the values."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from posix.types cimport gid_t, uid_t

cdef extern from "openvstorage/shm.h" nogil:
    int ovsshm_default_socket(char *path, size_t path_bytes)
    const char *ovsshm_reason()

cdef extern from "openvstorage/shm_server.h" nogil:
    enum:
        OVSSHM_DEPTH_MAX
        OVSSHM_QUEUES_MAX
        OVSSHM_PAGE_BYTES
        OVSSHM_IDENT_BYTES
        OVSSHM_OP_READ
        OVSSHM_OP_WRITE
        OVSSHM_SQE_FUA
        OVSSHM_SQE_MAY_UNMAP
        OVSSHM_EXTENT_HOLE
        OVSSHM_EXTENT_ZERO
        OVSSHM_CAP_WRITE
        OVSSHM_CAP_DISCARD
        OVSSHM_CAP_WRITE_ZEROES
        OVSSHM_CAP_BLOCK_STATUS
        OVSSHM_CAP_RESIZE
        OVSSHM_CAP_SNAPSHOT
        OVSSHM_CAP_MANAGE

    struct ovsshm_volume_info:
        char name[256]
        uint64_t size_bytes
        uint64_t allocated_bytes
        uint32_t block_bytes
        uint32_t snapshots

    struct ovsshm_snapshot_info:
        char name[256]
        uint64_t size_bytes
        uint64_t allocated_bytes
        int64_t created_ns

    struct ovsshm_extent:
        uint64_t length_bytes
        uint32_t flags

    enum ovsshm_log_level:
        OVSSHM_LOG_ERROR
        OVSSHM_LOG_WARNING
        OVSSHM_LOG_INFO
        OVSSHM_LOG_DEBUG

    struct ovsshm_error:
        char reason[256]

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

    enum:
        OVSSHM_STORE_ABI
        OVSSHM_STORE_HOLDS

    struct ovsshm_store:
        const ovsshm_store_type *type
        uint64_t capabilities

    struct ovsshm_store_volume:
        ovsshm_store *store
        uint64_t size_bytes
        uint32_t block_bytes

    struct iovec:
        void *iov_base
        size_t iov_len

    struct ovsshm_request:
        ovsshm_store_volume *volume
        uint64_t offset_bytes
        uint32_t length_bytes
        uint8_t op
        uint8_t flags
        iovec *iov
        uint32_t iov_count
        uint32_t extents_max
        ovsshm_extent *extents

    void ovsshm_request_complete(ovsshm_request *request, int32_t result)

    struct ovsshm_memory:
        pass

    ovsshm_memory *ovsshm_request_hold(ovsshm_request *request)
    void ovsshm_memory_release(ovsshm_memory *memory)

    struct ovsshm_store_type:
        uint32_t abi
        uint32_t flags
        const char *name
        const char *summary
        const char *options
        int (*create)(const ovsshm_store_params *params, ovsshm_store **store,
                      ovsshm_error *error) noexcept nogil
        void (*destroy)(ovsshm_store *store) noexcept nogil
        int (*volume_create)(ovsshm_store *store, const char *name, uint64_t size_bytes,
                             ovsshm_error *error) noexcept nogil
        int (*volume_remove)(ovsshm_store *store, const char *name,
                             ovsshm_error *error) noexcept nogil
        int (*volume_stat)(ovsshm_store *store, const char *name,
                           ovsshm_volume_info *info) noexcept nogil
        int (*volume_list)(ovsshm_store *store, const char *after, ovsshm_volume_info *infos,
                           unsigned int count) noexcept nogil
        int (*volume_resize)(ovsshm_store *store, const char *name, ovsshm_store_volume *volume,
                             uint64_t size_bytes, ovsshm_error *error) noexcept nogil
        int (*volume_rename)(ovsshm_store *store, const char *name, const char *new_name,
                             ovsshm_error *error) noexcept nogil
        int (*volume_truncate)(ovsshm_store *store, const char *name, ovsshm_store_volume *volume,
                               uint64_t size_bytes, ovsshm_error *error) noexcept nogil
        int (*snapshot_create)(ovsshm_store *store, const char *name, ovsshm_store_volume *volume,
                               const char *snapshot, int64_t timeout_s,
                               ovsshm_error *error) noexcept nogil
        int (*snapshot_rollback)(ovsshm_store *store, const char *name,
                                 ovsshm_store_volume *volume, const char *snapshot,
                                 ovsshm_error *error) noexcept nogil
        int (*snapshot_remove)(ovsshm_store *store, const char *name, const char *snapshot,
                               ovsshm_error *error) noexcept nogil
        int (*snapshot_is_synced)(ovsshm_store *store, const char *name,
                                  const char *snapshot) noexcept nogil
        int (*snapshot_list)(ovsshm_store *store, const char *name, const char *after,
                             ovsshm_snapshot_info *infos, unsigned int count) noexcept nogil
        int (*volume_open)(ovsshm_store *store, const char *name, ovsshm_store_volume **volume,
                           ovsshm_error *error) noexcept nogil
        void (*volume_close)(ovsshm_store_volume *volume) noexcept nogil
        int (*group_create)(ovsshm_store *store, void **group) noexcept nogil
        void (*group_destroy)(void *group) noexcept nogil
        void (*submit)(ovsshm_store *store, void *group, ovsshm_request **requests,
                       unsigned int count) noexcept nogil

    const ovsshm_store_type ovsshm_store_file
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

cdef extern from "openvstorage/shm_mount.h" nogil:
    struct ovsshm_mount:
        pass

    enum ovsshm_mount_cache:
        OVSSHM_MOUNT_CACHE_NONE

    enum ovsshm_mount_io_uring:
        OVSSHM_MOUNT_IO_URING_AUTO

    struct ovsshm_mount_params:
        const char *path
        const char *files
        const char *volume_suffix
        ovsshm_mount_cache cache
        uint32_t threads
        uint32_t max_write
        uint32_t max_background
        bint allow_other
        bint shared_fd
        bint splice
        ovsshm_mount_io_uring io_uring
        ovsshm_log log
        void (*unmounted)(void *arg) noexcept nogil
        void *arg

    int ovsshm_mount_create(ovsshm_server *server, const ovsshm_mount_params *params,
                            ovsshm_mount **mount, ovsshm_error *error)
    int ovsshm_mount_start(ovsshm_mount *mount, ovsshm_error *error)
    void ovsshm_mount_stop(ovsshm_mount *mount)
    void ovsshm_mount_destroy(ovsshm_mount *mount)
