/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "legacy.h"

#define NETWORK_QDEPTH_DEFAULT 64

ovs_ctx_attr_t *
ovs_ctx_attr_new(void)
{
    ovs_ctx_attr_t *attr = calloc(1, sizeof(*attr));
    if (attr) {
        attr->network_qdepth = NETWORK_QDEPTH_DEFAULT;
    }
    return attr;
}

int
ovs_ctx_attr_destroy(ovs_ctx_attr_t *attr)
{
    free(attr);
    return 0;
}

int
ovs_ctx_attr_set_transport(ovs_ctx_attr_t *attr, const char *transport, const char *host, int port)
{
    (void)port;
    if (!attr) {
        return (int)legacy_result(-EINVAL);
    }
    if (!transport || !strcmp(transport, "shm")) {
        attr->transport = LEGACY_TRANSPORT_SHM;
        return 0;
    }
    bool network = !strcmp(transport, "tcp") || !strcmp(transport, "rdma");
    if (!network || !host || !host[0]) {
        return (int)legacy_result(-EINVAL);
    }
    attr->transport = LEGACY_TRANSPORT_NETWORK;
    return 0;
}

int
ovs_ctx_attr_set_network_qdepth(ovs_ctx_attr_t *attr, const uint64_t qdepth)
{
    if (!attr || qdepth == 0) {
        return (int)legacy_result(-EINVAL);
    }
    attr->network_qdepth = qdepth;
    return 0;
}

int
ovs_ctx_attr_enable_ha(ovs_ctx_attr_t *attr)
{
    if (!attr) {
        return (int)legacy_result(-EINVAL);
    }
    attr->ha = true;
    return 0;
}
