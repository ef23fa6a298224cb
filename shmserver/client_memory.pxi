# SPDX-License-Identifier: MIT
"""The memory of a request as Python sees it, and the request itself."""

cdef tuple OPS = (None, *Op)


@cython.final
cdef class ClientMemory:
    """Shared memory of one client, for as long as one request lasts; longer where a view of it is
    kept, which then holds the mapping.

    CPython tells by `exports` whether a view is left, slices and arrays made of it included.
    """

    cdef void *data  # NULL: nobody may have a view
    cdef Py_ssize_t length
    cdef bint readonly
    cdef unsigned int exports
    cdef ovsshm_memory *held

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.data == NULL:
            raise BufferError("the request is complete")
        PyBuffer_FillInfo(view, self, self.data, self.length, self.readonly, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1
        if self.exports == 0 and self.held != NULL:
            self.data = NULL
            ovsshm_memory_release(self.held)
            self.held = NULL

    cdef inline object view(self, const ovsshm_request *request):
        self.data = request.iov.iov_base
        self.length = <Py_ssize_t>request.iov.iov_len
        self.readonly = request.op == OVSSHM_OP_WRITE
        return PyMemoryView_FromObject(self)

    cdef inline void retire(self, ovsshm_request *request) noexcept:
        """The request ends now."""
        if self.exports:
            self.held = ovsshm_request_hold(request)
        else:
            self.data = NULL


cdef bytearray _gather(const ovsshm_request *request):
    """One piece of private memory for several of the client; with the data, if it is a write."""
    cdef bytearray whole = PyByteArray_FromStringAndSize(NULL, request.length_bytes)
    cdef char *at = PyByteArray_AS_STRING(whole)
    cdef uint32_t i
    if request.op == OVSSHM_OP_WRITE:
        for i in range(request.iov_count):
            memcpy(at, request.iov[i].iov_base, request.iov[i].iov_len)
            at += request.iov[i].iov_len
    else:
        memset(at, 0, request.length_bytes)  # nothing of ours for a client if it is not filled
    return whole


cdef void _scatter(const ovsshm_request *request, bytearray whole) noexcept:
    cdef const char *at = PyByteArray_AS_STRING(whole)
    cdef uint32_t i
    for i in range(request.iov_count):
        memcpy(request.iov[i].iov_base, at, request.iov[i].iov_len)
        at += request.iov[i].iov_len


@cython.final
cdef class Request:
    """shmserver.store.Request, of the C server."""

    cdef readonly object op
    cdef readonly object opened
    cdef readonly object offset_bytes
    cdef readonly object length_bytes
    cdef readonly bint fua
    cdef readonly bint may_unmap
    cdef readonly unsigned int extents_max
    cdef ovsshm_request *request  # NULL: ended
    cdef Group group
    cdef ClientMemory memory  # of a request with one piece
    cdef bytearray bounce     # for one with several
    cdef object _view
    cdef PyObject *following  # in the group's list, borrowed
    cdef PyObject *preceding

    @property
    def volume(self):
        return self.opened.handle

    @property
    def ended(self):
        return self.request == NULL

    @property
    def buffer(self):
        if self._view is None and self.op in (Op.READ, Op.WRITE):
            if self.request == NULL:
                raise ValueError("the request is complete")
            if self.request.iov_count == 1:
                self.memory = ClientMemory.__new__(ClientMemory)
                self._view = self.memory.view(self.request)
            else:
                self.bounce = _gather(self.request)
                view = PyMemoryView_FromObject(self.bounce)
                self._view = view.toreadonly() if self.op is Op.WRITE else view
        return self._view

    def complete(self, extents=()):
        cdef int32_t result = 0
        if self.op is Op.BLOCK_STATUS and self.request != NULL:
            try:
                extents = self.group.dispatcher.extents(
                    extents, self.length_bytes, self.extents_max)
            except BaseException as error:
                self.fail(error)
        if self.request == NULL:
            return
        if self.op is Op.BLOCK_STATUS:
            result = self._fill(extents)
        elif self.op is Op.READ or self.op is Op.WRITE:
            result = <int32_t>self.request.length_bytes
        self._end(result)

    def fail(self, error):
        if self.request != NULL:
            number = self.group.dispatcher.failed(self.op, self.opened, error)
            if self.request != NULL:  # logging has let other threads run
                self._end(-number)

    def __del__(self):
        self.fail(OSError(errno.EIO, "the store has forgotten the request"))

    cdef int32_t _fill(self, list extents):
        cdef int32_t count = 0
        for extent in extents:
            self.request.extents[count].length_bytes = extent.length_bytes
            self.request.extents[count].flags = (
                (OVSSHM_EXTENT_HOLE if extent.hole else 0)
                | (OVSSHM_EXTENT_ZERO if extent.zero else 0))
            count += 1
        return count

    cdef void _end(self, int32_t result) noexcept:
        request = self.request
        if self.bounce is not None and result > 0 and request.op == OVSSHM_OP_READ:
            _scatter(request, self.bounce)
        self.let_go()
        ovsshm_request_complete(request, result)

    cdef void let_go(self) noexcept:
        """Nothing here knows the server's request any more."""
        request, self.request = self.request, NULL
        self.group.forget(self)
        self._view = None
        if self.memory is not None:
            self.memory.retire(request)
