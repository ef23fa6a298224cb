/* SPDX-License-Identifier: MIT */
/*
 * What the rings cost by themselves: the C client against a server process with a memory store.
 *
 *     ring_bench [-s seconds per sample] [-r rounds] [-S store] [-p] [-w] [-f substring] [-u
 * socket]
 *
 *     -p  pin the client to CPU 0 and the server to the last CPU
 *     -w  neither side polls: the cost of sleeping and waking
 *     -f  only the cases whose name contains it
 *     -u  a server that runs already; its volume "bench" is made and filled if there is none
 *
 * Rounds are interleaved and the medians printed.  "pp" is the round trip of one cache line between
 * two CPUs before each round: on a virtual machine it says where the host has put them just now,
 * and figures from different placements must not be compared.
 */
#define _GNU_SOURCE
#include <openvstorage/shm.h>
#include <openvstorage/shm_server.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VOLUME_BYTES (1ull << 30)
#define DEPTH_MAX 128
#define ROUNDS_MAX 15
#define PP_ROUND_TRIPS 100000

struct options {
    double seconds;
    unsigned rounds;
    const char *store;
    const char *filter;
    const char *socket; /* NULL: a server of our own */
    bool pinned;
    bool sleeping;
};

struct sample {
    double iops;
    double client_us; /* CPU per request */
    double server_us;
    double doorbells; /* per request, both ways */
    double sleeps;
};

struct bench_case {
    const char *name;
    uint8_t op;
    unsigned bytes;
    unsigned depth;
    bool bounce; /* private memory, copied by the client */
};

static const struct bench_case cases[] = {
    {"4k read  shared  qd1", OVSSHM_OP_READ, 4096, 1, false},
    {"4k read  shared  qd32", OVSSHM_OP_READ, 4096, 32, false},
    {"4k read  shared  qd128", OVSSHM_OP_READ, 4096, 128, false},
    {"4k read  bounced qd1", OVSSHM_OP_READ, 4096, 1, true},
    {"4k read  bounced qd32", OVSSHM_OP_READ, 4096, 32, true},
    {"4k write shared  qd1", OVSSHM_OP_WRITE, 4096, 1, false},
    {"4k write shared  qd32", OVSSHM_OP_WRITE, 4096, 32, false},
    {"4k write bounced qd1", OVSSHM_OP_WRITE, 4096, 1, true},
    {"4k write bounced qd32", OVSSHM_OP_WRITE, 4096, 32, true},
    {"flush            qd1", OVSSHM_OP_FLUSH, 0, 1, false},
    {"flush            qd32", OVSSHM_OP_FLUSH, 0, 32, false},
    {"64k read  shared  qd8", OVSSHM_OP_READ, 65536, 8, false},
    {"64k read  bounced qd8", OVSSHM_OP_READ, 65536, 8, true},
    {"64k write bounced qd8", OVSSHM_OP_WRITE, 65536, 8, true},
    {"1M read  shared  qd4", OVSSHM_OP_READ, 1048576, 4, false},
    {"1M write bounced qd4", OVSSHM_OP_WRITE, 1048576, 4, true},
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

static void
die(const char *what, const char *why)
{
    fprintf(stderr, "ring_bench: %s: %s\n", what, why);
    exit(1);
}

static double
clock_s(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void
pin(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) {
        die("pin", "no such CPU");
    }
}

static unsigned
last_cpu(void)
{
    return (unsigned)sysconf(_SC_NPROCESSORS_ONLN) - 1;
}

/* ---- placement ------------------------------------------------------------------------------ */

static unsigned pp_word __attribute__((aligned(64)));

static void *
pp_answer(void *arg)
{
    (void)arg;
    for (unsigned i = 1; i < 2 * PP_ROUND_TRIPS; i += 2) {
        while (__atomic_load_n(&pp_word, __ATOMIC_ACQUIRE) != i) {
        }
        __atomic_store_n(&pp_word, i + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* Nanoseconds per round trip between the first and the last CPU. */
static double
pp_ns(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    cpu_set_t before, last;
    sched_getaffinity(0, sizeof(before), &before);
    CPU_ZERO(&last);
    CPU_SET(last_cpu(), &last);
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof(last), &last);
    pp_word = 0;
    if (last_cpu() == 0 || pthread_create(&thread, &attributes, pp_answer, NULL)) {
        return 0;
    }
    pthread_attr_destroy(&attributes);
    pin(0);
    double start = clock_s(CLOCK_MONOTONIC);
    for (unsigned i = 1; i < 2 * PP_ROUND_TRIPS; i += 2) {
        __atomic_store_n(&pp_word, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(&pp_word, __ATOMIC_ACQUIRE) != i + 1) {
        }
    }
    double seconds = clock_s(CLOCK_MONOTONIC) - start;
    pthread_join(thread, NULL);
    sched_setaffinity(0, sizeof(before), &before);
    return seconds * 1e9 / PP_ROUND_TRIPS;
}

/* ---- the server process ------------------------------------------------------------------------
 */

static void
server_main(const struct options *options, const char *path, int ready, int parent)
{
    struct ovsshm_error error = {.reason = ""};
    struct ovsshm_server *server;
    struct ovsshm_store *store;
    const struct ovsshm_store_type *type = ovsshm_store_find(options->store);
    struct ovsshm_store_params store_params = {.pool = NULL};
    struct ovsshm_server_params params = {
        .socket_path = path,
        .reactors = 1,
        .spin_ns_max = options->sleeping ? UINT64_MAX : 0,
    };
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (options->pinned) {
        pin(last_cpu());
    }
    if (!type || type->create(&store_params, &store, &error) ||
        ovsshm_server_create(&params, store, &server, &error) ||
        ovsshm_server_start(server, &error)) {
        die("server", type ? error.reason : "no such store");
    }
    if (write(ready, "", 1) != 1 || read(parent, &byte, 1) < 0) {
        die("server", "pipe");
    }
    ovsshm_server_stop(server, 1000000000);
    ovsshm_server_destroy(server);
    type->destroy(store);
    exit(0);
}

/* ---- one sample --------------------------------------------------------------------------------
 */

struct run {
    const struct bench_case *bench;
    struct ovsshm_queue *queue;
    unsigned char *buffers;
    uint64_t next; /* offset of the next request */
    uint64_t volume_bytes;
};

static void
submit_one(struct run *run, uint64_t slot)
{
    struct ovsshm_io io = {
        .op = run->bench->op,
        .length_bytes = run->bench->bytes,
        .offset_bytes = run->next,
        .buffer = run->buffers + slot * run->bench->bytes,
        .user_data = slot,
    };
    run->next = (run->next + run->bench->bytes) % run->volume_bytes;
    if (ovsshm_queue_prep(run->queue, &io)) {
        die(run->bench->name, ovsshm_reason());
    }
}

/* Keeps `depth` requests in flight until the time is over; returns how many completed. */
static uint64_t
run_for(struct run *run, double seconds)
{
    struct ovsshm_completion completions[DEPTH_MAX];
    uint64_t count = 0;
    double end = clock_s(CLOCK_MONOTONIC) + seconds;
    for (unsigned i = 0; i < run->bench->depth; i++) {
        submit_one(run, i);
    }
    bool over = false;
    for (uint64_t turn = 0; ovsshm_queue_in_flight(run->queue); turn++) {
        ovsshm_queue_submit(run->queue);
        int n = ovsshm_queue_wait(run->queue, completions, DEPTH_MAX, -1);
        over = over || (turn % 64 == 0 && clock_s(CLOCK_MONOTONIC) >= end);
        for (int i = 0; i < n; i++) {
            if (completions[i].result != (int64_t)run->bench->bytes) {
                die(run->bench->name, "a request failed");
            }
            if (!over) {
                submit_one(run, completions[i].user_data);
            }
        }
        count += (uint64_t)n;
    }
    return count;
}

static struct sample
sample(struct ovsshm_conn *conn, struct ovsshm_volume *volume, const struct bench_case *bench,
       clockid_t server_clock, double seconds)
{
    struct ovsshm_queue *queue = ovsshm_volume_queue(volume, 0);
    size_t bytes = (size_t)bench->bytes * bench->depth + 1;
    struct run run = {.bench = bench, .queue = queue, .volume_bytes = ovsshm_volume_bytes(volume)};
    run.buffers = bench->bounce ? aligned_alloc(4096, (bytes + 4095) / 4096 * 4096)
                                : ovsshm_buffer_alloc(volume, bytes);
    if (!run.buffers) {
        die(bench->name, "no memory for buffers");
    }
    memset(run.buffers, 1, bytes);
    run_for(&run, seconds / 10); /* warm */
    struct ovsshm_status status[2];
    ovsshm_status(conn, &status[0]);
    struct ovsshm_queue_counters before = ovsshm_queue_counters(queue);
    double server_cpu = clock_s(server_clock);
    double client_cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    double start = clock_s(CLOCK_MONOTONIC);
    double count = (double)run_for(&run, seconds);
    double elapsed = clock_s(CLOCK_MONOTONIC) - start;
    client_cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID) - client_cpu;
    server_cpu = clock_s(server_clock) - server_cpu;
    struct ovsshm_queue_counters after = ovsshm_queue_counters(queue);
    ovsshm_status(conn, &status[1]);
    if (bench->bounce) {
        free(run.buffers);
    } else {
        ovsshm_buffer_free(volume, run.buffers);
    }
    return (struct sample){
        .iops = count / elapsed,
        .client_us = client_cpu * 1e6 / count,
        .server_us = server_cpu * 1e6 / count,
        .doorbells = (double)(after.doorbells - before.doorbells + status[1].doorbells -
                              status[0].doorbells) /
                     count,
        .sleeps =
            (double)(after.sleeps - before.sleeps + status[1].sleeps - status[0].sleeps) / count,
    };
}

/* ---- report ------------------------------------------------------------------------------------
 */

static int
compare_iops(const void *a, const void *b)
{
    const struct sample *x = a;
    const struct sample *y = b;
    return (x->iops > y->iops) - (x->iops < y->iops);
}

static void
report(const struct bench_case *bench, struct sample *samples, unsigned count)
{
    qsort(samples, count, sizeof(*samples), compare_iops);
    const struct sample *m = &samples[count / 2];
    printf("%-24s %10.0f  %9.0f-%-9.0f %7.3f %7.3f %8.3f  %7.4f %7.4f\n", bench->name, m->iops,
           samples[0].iops, samples[count - 1].iops, m->client_us, m->server_us,
           m->iops * bench->bytes / 1e9, m->doorbells, m->sleeps);
}

/* Writes all of the volume, so that no sample pays for first touching memory. */
static void
fill(struct ovsshm_volume *volume)
{
    struct ovsshm_io io = {.op = OVSSHM_OP_WRITE, .length_bytes = 1048576};
    io.buffer = ovsshm_buffer_alloc(volume, io.length_bytes);
    memset(io.buffer, 1, io.length_bytes);
    for (; io.offset_bytes < VOLUME_BYTES; io.offset_bytes += io.length_bytes) {
        if (ovsshm_queue_run(ovsshm_volume_queue(volume, 0), &io) < 0) {
            die("fill", ovsshm_reason());
        }
    }
    ovsshm_buffer_free(volume, io.buffer);
}

/* Opens the volume to measure with, which is new or has been filled before. */
static struct ovsshm_volume *
open_filled(struct ovsshm_conn *conn, const struct ovsshm_open_params *params)
{
    struct ovsshm_volume *volume;
    int rc = ovsshm_create(conn, "bench", VOLUME_BYTES);
    if ((rc && rc != -EEXIST) || ovsshm_open(conn, "bench", params, &volume)) {
        die("client", ovsshm_reason());
    }
    if (rc == 0) {
        fill(volume);
    }
    return volume;
}

static void
measure(const struct options *options, const char *path)
{
    static struct sample samples[CASES][ROUNDS_MAX];
    struct ovsshm_open_params params = {
        .mode = OVSSHM_MODE_WRITE,
        .depth = DEPTH_MAX,
        .spin_ns_max = options->sleeping ? UINT64_MAX : 0,
    };
    struct ovsshm_conn *conn;
    struct ovsshm_status status;
    clockid_t server_clock;
    if (ovsshm_connect(path, &conn) || ovsshm_status(conn, &status)) {
        die("client", ovsshm_reason());
    }
    struct ovsshm_volume *volume = open_filled(conn, &params);
    clock_getcpuclockid((pid_t)status.pid, &server_clock);
    if (options->pinned) {
        pin(0);
    }
    printf("pp ns:");
    for (unsigned round = 0; round < options->rounds; round++) {
        printf(" %.0f", pp_ns());
        fflush(stdout);
        for (unsigned i = 0; i < CASES; i++) {
            if (strstr(cases[i].name, options->filter)) {
                samples[i][round] = sample(conn, volume, &cases[i], server_clock, options->seconds);
            }
        }
    }
    printf("\n%-24s %10s  %9s-%-9s %7s %7s %8s  %7s %7s\n", "", "IOPS", "lowest", "highest",
           "client", "server", "GB/s", "rings", "sleeps");
    printf("%-24s %10s  %9s %-9s %7s %7s %8s  %7s %7s\n", "", "median", "", "", "us/req", "us/req",
           "", "/req", "/req");
    for (unsigned i = 0; i < CASES; i++) {
        if (strstr(cases[i].name, options->filter)) {
            report(&cases[i], samples[i], options->rounds);
        }
    }
    ovsshm_close(volume);
    ovsshm_disconnect(conn);
}

static struct options
options_parse(int argc, char **argv)
{
    struct options options = {.seconds = 0.3, .rounds = 5, .store = "memory", .filter = ""};
    int c;
    while ((c = getopt(argc, argv, "s:r:S:f:u:pw")) != -1) {
        switch (c) {
        case 's': options.seconds = atof(optarg); break;
        case 'r': options.rounds = (unsigned)atoi(optarg); break;
        case 'S': options.store = optarg; break;
        case 'f': options.filter = optarg; break;
        case 'u': options.socket = optarg; break;
        case 'p': options.pinned = true; break;
        case 'w': options.sleeping = true; break;
        default: exit(2);
        }
    }
    if (options.rounds < 1 || options.rounds > ROUNDS_MAX || options.seconds <= 0) {
        die("options", "1 to 15 rounds of more than 0 seconds");
    }
    return options;
}

/* With a server of our own. */
static int
measure_alone(const struct options *options)
{
    char directory[] = "/tmp/ring_bench-XXXXXX";
    char path[64];
    int ready[2], parent[2];
    char byte;
    if (!mkdtemp(directory) || pipe(ready) || pipe(parent)) {
        die("start", "no directory or pipe");
    }
    snprintf(path, sizeof(path), "%s/shm.sock", directory);
    pid_t server = fork();
    if (server == 0) {
        close(ready[0]);
        close(parent[1]);
        server_main(options, path, ready[1], parent[0]);
    }
    close(ready[1]);
    close(parent[0]);
    if (server > 0 && read(ready[0], &byte, 1) == 1) {
        measure(options, path);
    }
    close(parent[1]);
    int status = 1;
    waitpid(server, &status, 0);
    unlink(path);
    rmdir(directory);
    return status != 0;
}

int
main(int argc, char **argv)
{
    struct options options = options_parse(argc, argv);
    if (options.socket) {
        measure(&options, options.socket);
        return 0;
    }
    return measure_alone(&options);
}
