/* SPDX-License-Identifier: MIT */
#include "pause.h"

#include "local_own.h"

void
srv_pause_begin(struct pause *pause, struct ovsshm_server *server, struct volume *volume)
{
    pause->server = server;
    pause->volume = volume;
    if (volume) {
        srv_local_hold_volume(volume);
    }
    srv_gate_init(&pause->reached, server->params.reactors);
    srv_gate_init(&pause->ended, server->params.reactors);
    for (uint32_t i = 0; i < server->params.reactors; i++) {
        srv_quiet_begin(&pause->quiets[i], &server->reactors[i], volume, &pause->reached,
                        &pause->ended);
    }
}

bool
srv_pause_wait(struct pause *pause, uint64_t deadline_ns)
{
    return srv_gate_wait(&pause->reached, deadline_ns) &&
           srv_local_await_quiet(pause->server, pause->volume, deadline_ns);
}

void
srv_pause_end(struct pause *pause)
{
    for (uint32_t i = 0; i < pause->server->params.reactors; i++) {
        srv_quiet_end(&pause->quiets[i]);
    }
    srv_gate_wait(&pause->ended, UINT64_MAX);
    srv_gate_destroy(&pause->reached);
    srv_gate_destroy(&pause->ended);
    if (pause->volume) {
        srv_local_let_go(pause->volume);
    }
}
