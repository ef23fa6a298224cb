/* SPDX-License-Identifier: MIT */
#include "counters.h"

#include <string.h>

#include "local_own.h"
#include "server.h"
#include "session.h"

void
srv_counters_sum(struct counters *to, const struct counters *from)
{
    to->reads += ovsshm_load_relaxed(&from->reads);
    to->writes += ovsshm_load_relaxed(&from->writes);
    to->others += ovsshm_load_relaxed(&from->others);
    to->errors += ovsshm_load_relaxed(&from->errors);
    to->read_bytes += ovsshm_load_relaxed(&from->read_bytes);
    to->written_bytes += ovsshm_load_relaxed(&from->written_bytes);
    to->latency_ns += ovsshm_load_relaxed(&from->latency_ns);
    to->doorbells += ovsshm_load_relaxed(&from->doorbells);
    for (unsigned i = 0; i < OVSSHM_LATENCY_BUCKETS; i++) {
        to->latency_counts[i] += ovsshm_load_relaxed(&from->latency_counts[i]);
    }
}

void
srv_counters_session(struct counters *to, const struct session *session)
{
    if (session->local) {
        srv_local_counters(session, to);
    }
    for (uint32_t i = 0; i < session->queue_count; i++) {
        srv_counters_sum(to, &session->queues[i].counters);
    }
}

static void
describe(const struct session *session, struct ovsshm_session_info *info)
{
    struct counters sum = {.reads = 0};
    srv_counters_session(&sum, session);
    *info = (struct ovsshm_session_info){
        .id = session->id,
        .pid = (uint32_t)session->peer.pid,
        .uid = session->peer.uid,
        .mode = session->mode,
        .queues = session->queue_count,
        .uptime_ns = srv_clock_ns() - session->opened_ns,
        .reads = sum.reads,
        .writes = sum.writes,
        .others = sum.others,
        .errors = sum.errors,
        .read_bytes = sum.read_bytes,
        .written_bytes = sum.written_bytes,
        .latency_ns = sum.latency_ns,
        .doorbells = sum.doorbells,
    };
    memcpy(info->client, session->client, sizeof(info->client));
    memcpy(info->volume, session->volume->name, sizeof(info->volume));
    memcpy(info->latency_counts, sum.latency_counts, sizeof(info->latency_counts));
    if (session->local) {
        info->in_flight = srv_local_in_flight(session->server, session->volume);
    }
    for (uint32_t i = 0; i < session->queue_count; i++) {
        info->in_flight += ovsshm_load_relaxed(&session->queues[i].in_flight);
    }
}

unsigned
srv_counters_sessions(struct ovsshm_server *server, uint64_t after,
                      struct ovsshm_session_info *infos, unsigned count)
{
    struct registry *registry = &server->registry;
    const struct session *session;
    unsigned stored = 0;
    pthread_mutex_lock(&registry->lock);
    TAILQ_FOREACH(session, &registry->sessions, by_id)
    {
        if (stored == count) {
            break;
        }
        if (session->id > after) {
            describe(session, &infos[stored++]);
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return stored;
}

void
srv_counters_total(struct ovsshm_server *server, struct counters *total)
{
    struct registry *registry = &server->registry;
    const struct session *session;
    pthread_mutex_lock(&registry->lock);
    *total = registry->ended;
    TAILQ_FOREACH(session, &registry->sessions, by_id)
    {
        srv_counters_session(total, session);
    }
    pthread_mutex_unlock(&registry->lock);
}
