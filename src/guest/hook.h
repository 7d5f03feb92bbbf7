/* Hook of the OCI runtime (createRuntime): interfaces and namespaces of a container that does not run yet. */
#ifndef BOOTMATRIX_HOOK_H
#define BOOTMATRIX_HOOK_H

#include <stddef.h>
#include <sys/types.h>

/* Do what each line of the file argv[1] says, with tabs between the words:
 *   add NAME KIND PEER root|new    add an interface, in the root's or the container's namespace
 *   move NAME                      move an interface to the container
 *   bind NAMESPACE PATH            bind a namespace of the container to a path of the containers' view
 * The standard input is the container's state (OCI runtime specification, runtime.md). Return an exit status. */
int hook_main(int argc, char **argv);

/* Find the process id in an OCI state: the number "pid" of the outermost object. Return it, or -1 if the text is not such. */
pid_t oci_state_pid(const char *text, size_t size);

#endif
