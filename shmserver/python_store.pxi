# SPDX-License-Identifier: MIT
"""A Python store as a store of the C core.

Data: a reactor takes the GIL once per batch.  A plain pread or pwrite on one piece of memory is
called at once; everything else becomes a Request for the dispatcher.

Threads: all callbacks come from the core's threads.  A reactor keeps one Python thread state from
group_create to group_destroy: making one takes longer than serving a request.
"""

cdef struct PythonStore:
    ovsshm_store base
    ovsshm_store_type type
    char name[OVSSHM_IDENT_BYTES]
    PyObject *dispatcher


cdef struct PythonVolume:
    ovsshm_store_volume base
    PyObject *opened
    PyObject *handle


# ---- data ----


@cython.final
cdef class Group:
    """What one reactor needs."""

    cdef object dispatcher
    cdef object pread  # None: not to be called here
    cdef object pwrite
    cdef ClientMemory memory
    cdef PyObject *first  # Request that has not been ended

    def __cinit__(self, dispatcher):
        self.dispatcher = dispatcher
        self.pread = dispatcher.plain(Op.READ)
        self.pwrite = dispatcher.plain(Op.WRITE)
        self.memory = ClientMemory.__new__(ClientMemory)

    cdef void submit(self, ovsshm_request **requests, unsigned int count) noexcept:
        cdef unsigned int i
        cdef list others = None
        for i in range(count):
            request = requests[i]
            method = self.pread if request.op == OVSSHM_OP_READ else self.pwrite
            if request.iov_count == 1 and request.flags == 0 and method is not None:
                ovsshm_request_complete(request, self.serve(method, request))
            else:
                if others is None:
                    others = []
                self.wrap(request, others)
        if others is not None:
            self.dispatcher.submit(others)

    cdef inline int32_t serve(self, method, ovsshm_request *request) noexcept:
        """The result of a plain pread or pwrite."""
        cdef int32_t result = <int32_t>request.length_bytes
        try:
            returned = method(
                <object>(<PythonVolume *>request.volume).handle,
                self.memory.view(request),
                request.offset_bytes,
            )
            if returned is not None:
                check_count(returned, request.length_bytes)
        except BaseException as error:
            result = self.failed(request, error)
        if self.memory.exports or (<PyObject *>self.memory).ob_refcnt > 1:
            result = self.replace_memory(request, result)
        return result

    cdef int32_t failed(self, const ovsshm_request *request, error) noexcept:
        try:
            opened = <object>(<PythonVolume *>request.volume).opened
            return -self.dispatcher.failed(OPS[request.op], opened, error)
        except BaseException:
            return -EIO

    cdef int32_t replace_memory(self, ovsshm_request *request, int32_t result) noexcept:
        """Somebody has kept a view."""
        self.memory.retire(request)
        try:
            self.memory = ClientMemory.__new__(ClientMemory)
        except MemoryError:
            self.pread = self.pwrite = None
        return result

    cdef void wrap(self, ovsshm_request *request, list others) noexcept:
        """Another one for the dispatcher."""
        cdef Request wrapped
        try:
            wrapped = self.new_request(request)
        except MemoryError:
            ovsshm_request_complete(request, -ENOMEM)
            return
        others.append(wrapped)

    cdef Request new_request(self, ovsshm_request *request):
        cdef Request wrapped = Request.__new__(Request)
        wrapped.op = OPS[request.op]
        wrapped.opened = <object>(<PythonVolume *>request.volume).opened
        wrapped.offset_bytes = request.offset_bytes
        wrapped.length_bytes = request.length_bytes
        wrapped.fua = request.flags & OVSSHM_SQE_FUA
        wrapped.may_unmap = request.flags & OVSSHM_SQE_MAY_UNMAP
        wrapped.extents_max = request.extents_max
        wrapped.group = self
        wrapped.request = request  # from now on it ends with the object
        wrapped.following = self.first
        if self.first != NULL:
            (<Request>self.first).preceding = <PyObject *>wrapped
        self.first = <PyObject *>wrapped
        return wrapped

    cdef void forget(self, Request request) noexcept:
        if request.preceding != NULL:
            (<Request>request.preceding).following = request.following
        else:
            self.first = request.following
        if request.following != NULL:
            (<Request>request.following).preceding = request.preceding
        request.preceding = request.following = NULL

    cdef void drop_all(self) noexcept:
        while self.first != NULL:
            (<Request>self.first).let_go()


cdef int _group_create(ovsshm_store *store, void **group) noexcept nogil:
    cdef int rc
    state = PyGILState_Ensure()  # makes the thread state; _group_destroy() undoes it
    with gil:
        rc = _make_group(store, group)
    if rc < 0:
        PyGILState_Release(state)
    else:
        PyEval_SaveThread()
    return rc


cdef int _make_group(ovsshm_store *store, void **group) noexcept:
    try:
        made = Group.__new__(Group, <object>(<PythonStore *>store).dispatcher)
    except BaseException:
        _log.exception("cannot start to serve a store")
        return -EIO
    Py_INCREF(made)
    group[0] = <void *>made
    return 0


cdef void _group_destroy(void *group) noexcept nogil:
    with gil:
        (<Group>group).drop_all()
        Py_DECREF(<Group>group)
    PyEval_RestoreThread(PyGILState_GetThisThreadState())
    PyGILState_Release(PyGILState_UNLOCKED)


cdef void _submit(ovsshm_store *store, void *group, ovsshm_request **requests,
                  unsigned int count) noexcept with gil:
    (<Group>group).submit(requests, count)


# ---- management ----


cdef object _manager(ovsshm_store *store):
    return (<object>(<PythonStore *>store).dispatcher).manage


cdef str _text(const char *name):
    return name.decode("utf-8", "surrogateescape")


cdef int _put_text(char *field, size_t field_bytes, str text) except -1:
    """Into a field that is zeroed; what is too long for it is cut."""
    cdef bytes encoded = text.encode("utf-8", "surrogateescape")[: field_bytes - 1]
    memcpy(field, <const char *>encoded, len(encoded))
    return 0


cdef int _refuse(error, ovsshm_error *reason) noexcept:
    """All that the dispatcher raises is OSError; were it not, the client still gets an answer."""
    cdef int number = EIO
    try:
        number = error.errno
        if reason != NULL:
            memset(reason.reason, 0, sizeof(reason.reason))
            _put_text(reason.reason, sizeof(reason.reason), error.strerror)
    except BaseException:
        _log.exception("a store raised what it must not")
    return -number


cdef int _volume_create(ovsshm_store *store, const char *name, uint64_t size_bytes,
                        ovsshm_error *reason) noexcept with gil:
    try:
        _manager(store).create(_text(name), size_bytes)
        return 0
    except BaseException as error:
        return _refuse(error, reason)


cdef int _volume_remove(ovsshm_store *store, const char *name,
                        ovsshm_error *reason) noexcept with gil:
    try:
        _manager(store).remove(_text(name))
        return 0
    except BaseException as error:
        return _refuse(error, reason)


cdef int _put_info(ovsshm_store *store, ovsshm_volume_info *info, stat) except -1:
    memset(info, 0, sizeof(info[0]))
    _put_text(info.name, sizeof(info.name), stat.name)
    info.size_bytes = stat.size_bytes
    info.allocated_bytes = stat.allocated_bytes
    info.block_bytes = (<object>(<PythonStore *>store).dispatcher).block_bytes
    info.snapshots = stat.snapshots
    return 0


cdef int _volume_stat(ovsshm_store *store, const char *name,
                      ovsshm_volume_info *info) noexcept with gil:
    try:
        return _put_info(store, info, _manager(store).stat(_text(name)))
    except BaseException as error:
        return _refuse(error, NULL)


cdef int _volume_list(ovsshm_store *store, const char *after, ovsshm_volume_info *infos,
                      unsigned int count) noexcept with gil:
    cdef int i = 0
    try:
        for stat in _manager(store).list("" if after == NULL else _text(after), count):
            _put_info(store, &infos[i], stat)
            i += 1
        return i
    except BaseException as error:
        return _refuse(error, NULL)


cdef int _volume_resize(ovsshm_store *store, const char *name, ovsshm_store_volume *volume,
                        uint64_t size_bytes, ovsshm_error *reason) noexcept with gil:
    try:
        size_bytes = _manager(store).resize(_text(name), size_bytes)
        if volume != NULL:
            volume.size_bytes = size_bytes
        return 0
    except BaseException as error:
        return _refuse(error, reason)


cdef int _volume_truncate(ovsshm_store *store, const char *name, ovsshm_store_volume *volume,
                          uint64_t size_bytes, ovsshm_error *reason) noexcept with gil:
    try:
        size_bytes = _manager(store).truncate(_text(name), size_bytes)
        if volume != NULL:
            volume.size_bytes = size_bytes
        return 0
    except BaseException as error:
        return _refuse(error, reason)


cdef int _volume_rename(ovsshm_store *store, const char *name, const char *new_name,
                        ovsshm_error *reason) noexcept with gil:
    try:
        _manager(store).rename(_text(name), _text(new_name))
        return 0
    except BaseException as error:
        return _refuse(error, reason)


cdef int _snapshot_create(ovsshm_store *store, const char *name, ovsshm_store_volume *volume,
                          const char *snapshot, int64_t timeout_s,
                          ovsshm_error *reason) noexcept with gil:
    try:
        _manager(store).snapshot_create(_text(name), _text(snapshot), timeout_s)
        return 0
    except BaseException as error:
        return _refuse(error, reason)


cdef int _snapshot_rollback(ovsshm_store *store, const char *name, ovsshm_store_volume *volume,
                            const char *snapshot, ovsshm_error *reason) noexcept with gil:
    try:
        size_bytes = _manager(store).snapshot_rollback(_text(name), _text(snapshot))
        if volume != NULL:
            volume.size_bytes = size_bytes
        return 0
    except BaseException as error:
        return _refuse(error, reason)


cdef int _snapshot_remove(ovsshm_store *store, const char *name, const char *snapshot,
                          ovsshm_error *reason) noexcept with gil:
    try:
        _manager(store).snapshot_remove(_text(name), _text(snapshot))
        return 0
    except BaseException as error:
        return _refuse(error, reason)


cdef int _snapshot_is_synced(ovsshm_store *store, const char *name,
                             const char *snapshot) noexcept with gil:
    try:
        return _manager(store).snapshot_is_synced(_text(name), _text(snapshot))
    except BaseException as error:
        return _refuse(error, NULL)


cdef int _put_snapshot(ovsshm_snapshot_info *info, snapshot) except -1:
    memset(info, 0, sizeof(info[0]))
    _put_text(info.name, sizeof(info.name), snapshot.name)
    info.size_bytes = snapshot.size_bytes
    info.allocated_bytes = snapshot.allocated_bytes
    info.created_ns = snapshot.created_ns
    return 0


cdef int _snapshot_list(ovsshm_store *store, const char *name, const char *after,
                        ovsshm_snapshot_info *infos, unsigned int count) noexcept with gil:
    cdef int i = 0
    try:
        last = "" if after == NULL else _text(after)
        for snapshot in _manager(store).snapshot_list(_text(name), last, count):
            _put_snapshot(&infos[i], snapshot)
            i += 1
        return i
    except BaseException as error:
        return _refuse(error, NULL)


cdef int _volume_open(ovsshm_store *store, const char *name, ovsshm_store_volume **out,
                      ovsshm_error *reason) noexcept with gil:
    cdef PythonVolume *volume = <PythonVolume *>calloc(1, sizeof(PythonVolume))
    if volume == NULL:
        return -ENOMEM
    try:
        opened = _manager(store).open(_text(name))
        volume.base.store = store
        volume.base.size_bytes = opened.size_bytes
        volume.base.block_bytes = (<object>(<PythonStore *>store).dispatcher).block_bytes
        handle = opened.handle
    except BaseException as error:
        free(volume)
        return _refuse(error, reason)
    Py_INCREF(opened)
    volume.opened = <PyObject *>opened
    Py_INCREF(handle)
    volume.handle = <PyObject *>handle
    out[0] = &volume.base
    return 0


cdef void _volume_close(ovsshm_store_volume *closing) noexcept with gil:
    volume = <PythonVolume *>closing
    try:
        _manager(volume.base.store).close(<object>volume.opened)
    except BaseException:
        _log.exception("cannot close a volume")
    Py_DECREF(<object>volume.handle)
    Py_DECREF(<object>volume.opened)
    free(volume)


# ---- the store ----


cdef uint64_t _capabilities(ability) except? 0:
    cdef uint64_t bits = 0
    for can, bit in (
        (ability.write, OVSSHM_CAP_WRITE),
        (ability.discard, OVSSHM_CAP_DISCARD),
        (ability.write_zeroes, OVSSHM_CAP_WRITE_ZEROES),
        (ability.block_status, OVSSHM_CAP_BLOCK_STATUS),
        (ability.resize, OVSSHM_CAP_RESIZE),
        (ability.snapshot, OVSSHM_CAP_SNAPSHOT),
        (ability.manage, OVSSHM_CAP_MANAGE),
    ):
        bits |= <uint64_t>bit if can else 0
    return bits


cdef ovsshm_store *_make_python_store(dispatcher) except NULL:
    """Its type is its own, because that has the name of the class."""
    cdef PythonStore *store = <PythonStore *>calloc(1, sizeof(PythonStore))
    if store == NULL:
        raise MemoryError
    try:
        _put_text(store.name, sizeof(store.name), dispatcher.name)
        store.base.capabilities = _capabilities(dispatcher.ability)
    except BaseException:
        free(store)
        raise
    Py_INCREF(dispatcher)
    store.dispatcher = <PyObject *>dispatcher
    store.base.type = &store.type
    store.type.abi = OVSSHM_STORE_ABI
    store.type.flags = OVSSHM_STORE_HOLDS
    store.type.name = store.name
    store.type.summary = b"a store in Python"
    store.type.destroy = _destroy_python_store
    store.type.volume_create = _volume_create
    store.type.volume_remove = _volume_remove
    store.type.volume_stat = _volume_stat
    store.type.volume_list = _volume_list
    store.type.volume_resize = _volume_resize
    if dispatcher.ability.truncate:
        store.type.volume_truncate = _volume_truncate
    if dispatcher.ability.rename:
        store.type.volume_rename = _volume_rename
    store.type.snapshot_create = _snapshot_create
    store.type.snapshot_rollback = _snapshot_rollback
    store.type.snapshot_remove = _snapshot_remove
    store.type.snapshot_is_synced = _snapshot_is_synced
    store.type.snapshot_list = _snapshot_list
    store.type.volume_open = _volume_open
    store.type.volume_close = _volume_close
    store.type.group_create = _group_create
    store.type.group_destroy = _group_destroy
    store.type.submit = _submit
    return &store.base


cdef void _destroy_python_store(ovsshm_store *store) noexcept with gil:
    Py_DECREF(<object>(<PythonStore *>store).dispatcher)
    free(store)
