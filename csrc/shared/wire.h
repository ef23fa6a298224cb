/* SPDX-License-Identifier: MIT */
/* Names of the numbers in shm_wire.h, for messages and logs. */
#ifndef OVSSHM_WIRE_NAMES_H
#define OVSSHM_WIRE_NAMES_H

const char *ovsshm_op_name(unsigned op);
const char *ovsshm_msg_name(unsigned type);

#endif
