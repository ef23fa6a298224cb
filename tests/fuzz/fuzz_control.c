/* SPDX-License-Identifier: MIT */
/*
 * The server's control socket against packets from the input.  A whole server runs with its threads
 * and the memory store; each input is one connection.  Afterwards an honest one must be answered.
 */
#define _GNU_SOURCE
#include "input.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <openvstorage/shm_server.h>

#include "shared/control.h"

#define PACKETS_MAX 16
#define CHECK_EVERY 64

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static char directory[] = "/tmp/ovsshm-fuzz-XXXXXX";
static struct ovsshm_server *server;
static struct ovsshm_store *store;
static struct ovsshm_packet packet;

static void
stop(void)
{
    ovsshm_server_destroy(server);
    store->type->destroy(store);
    rmdir(directory);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct ovsshm_store_params store_params = {.pool = NULL};
    struct ovsshm_error error;
    (void)argc;
    (void)argv;
    MUST(mkdtemp(directory));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
    struct ovsshm_server_params params = {
        .socket_path = address.sun_path,
        .reactors = 1,
        .spin_ns_max = UINT64_MAX,
        .arena_bytes_max = 1u << 20,
        .depth_max = 64,
        .queues_max = 4,
    };
    MUST(ovsshm_store_memory.create(&store_params, &store, &error) == 0);
    MUST(ovsshm_server_create(&params, store, &server, &error) == 0);
    MUST(ovsshm_server_start(server, &error) == 0);
    atexit(stop);
    return 0;
}

static int
connect_to_server(void)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    MUST(fd >= 0);
    MUST(connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* Says hello and reads its answer. */
static bool
greet(int fd)
{
    struct ovsshm_msg head = {.type = OVSSHM_MSG_HELLO};
    struct ovsshm_msg_hello hello = {.version_min = 1, .version_max = 1, .features = 7};
    MUST(ovsshm_msg_send(fd, head, &hello, sizeof(hello), NULL, 0) == 0);
    return ovsshm_msg_recv(fd, &packet, 0, 0) == 0 && packet.head.status == 0;
}

/* Raw bytes, or a header with the right magic, type and length for the bytes that follow. */
static int
send_one(int fd, struct input *in)
{
    static uint8_t bytes[OVSSHM_MSG_BYTES_MAX + 64];
    struct ovsshm_msg head = {.magic = OVSSHM_MAGIC};
    uint8_t how = input_u8(in);
    size_t length = how & 1 ? input_u16(in) : input_u8(in) * 4u;
    if (how & 2) {
        input_bytes(in, bytes, length);
    } else {
        head.type = input_u8(in);
        head.payload_bytes = (uint32_t)length;
        memcpy(bytes, &head, sizeof(head));
        input_bytes(in, bytes + sizeof(head), length);
        length += sizeof(head);
    }
    return send(fd, bytes, length, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Takes what has come; false when the server has closed. */
static bool
drain(int fd, int flags)
{
    int rc = ovsshm_msg_recv(fd, &packet, OVSSHM_MSG_FDS_MAX, flags);
    while (rc == 0) {
        MUST(packet.head.type == OVSSHM_MSG_EVENT || packet.head.flags == OVSSHM_MSG_REPLY);
        ovsshm_packet_close_fds(&packet);
        rc = ovsshm_msg_recv(fd, &packet, OVSSHM_MSG_FDS_MAX, MSG_DONTWAIT);
    }
    MUST(rc != -EPROTO);
    return rc == -EAGAIN;
}

static void
check_honest_client(void)
{
    static unsigned count;
    if (++count % CHECK_EVERY == 0) {
        int fd = connect_to_server();
        MUST(greet(fd));
        close(fd);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    int fd = connect_to_server();
    bool open = input_u8(&in) % 4 == 0 || greet(fd);
    for (int i = 0; open && in.left && i < PACKETS_MAX; i++) {
        open = send_one(fd, &in) == 0 && drain(fd, MSG_DONTWAIT);
    }
    if (open) {
        shutdown(fd, SHUT_WR);
        drain(fd, 0);
    }
    close(fd);
    check_honest_client();
    return 0;
}
