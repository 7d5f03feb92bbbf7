/* Network interfaces of the calling thread's network namespace, by rtnetlink(7). All return 0, or -1 with errno. */
#ifndef BOOTMATRIX_NETLINK_H
#define BOOTMATRIX_NETLINK_H

#include <stdint.h>
#include <sys/types.h>

int link_up(const char *name);

/* Set the hardware address. */
int link_set_hardware(const char *name, const uint8_t address[6]);

/* Parse a hardware address of the form 52:54:00:12:34:56. */
int hardware_parse(const char *text, uint8_t address[6]);

/* Add an interface of a kind that needs no parameters: dummy, bridge, … */
int link_add(const char *name, const char *kind);

/* Add a pair of connected interfaces. */
int link_add_veth(const char *name, const char *peer);

/* Move an interface to the network namespace of a process. */
int link_move(const char *name, pid_t pid);

/* Add an IPv4 or IPv6 address with the length of its prefix. */
int address_add(const char *name, const char *address, int prefix);

#endif
