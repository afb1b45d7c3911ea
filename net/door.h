/* net/door.h: the debug door of sockets (gateway/doors.h). In the product the macro is nothing. Does. */
#ifndef SLUICE_NET_DOOR_H
#define SLUICE_NET_DOOR_H

#ifdef SLUICE_DOORS
#include <stdbool.h>
struct sock;
// Nothing is to be read from it now, its end neither. It is woken (EV_READ) when that is over. Thread: its
// loop's. Defined by the gateway room.
bool door_is_deaf(const struct sock *s);
#define DOOR_IS_DEAF(s) door_is_deaf(s)
#else
#define DOOR_IS_DEAF(s) false
#endif

#endif
