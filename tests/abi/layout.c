/* SPDX-License-Identifier: MIT */
/* The structures that programs and the library share, as the compiler lays them out. */
#include <stddef.h>
#include <stdio.h>

#include <openvstorage/volumedriver.h>

#define SHOW(type, member) printf("%s.%s %zu\n", #type, #member, offsetof(type, member))

int
main(void)
{
    printf("struct ovs_aiocb %zu\n", sizeof(struct ovs_aiocb));
    SHOW(struct ovs_aiocb, aio_buf);
    SHOW(struct ovs_aiocb, aio_offset);
    SHOW(struct ovs_aiocb, aio_nbytes);
    SHOW(struct ovs_aiocb, request_);
    printf("ovs_snapshot_info_t %zu\n", sizeof(ovs_snapshot_info_t));
    SHOW(ovs_snapshot_info_t, name);
    SHOW(ovs_snapshot_info_t, size);
    return 0;
}
