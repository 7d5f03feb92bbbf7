/* A placeholder of libsystemd for crun, which links it and calls it in a guest with systemd only.
 *
 * It comes with 3 MB of libraries that each start of crun would unpack and bind. What is called here reports ENOSYS, and
 * a symbol that is missing ends crun at its start: nothing passes for what it is not. */

#define ABSENT(name) int name(void) { return -38; }

ABSENT(sd_bus_call)
ABSENT(sd_bus_default_system)
ABSENT(sd_bus_default_user)
ABSENT(sd_bus_error_free)
ABSENT(sd_bus_error_get_errno)
ABSENT(sd_bus_match_signal_async)
ABSENT(sd_bus_message_append)
ABSENT(sd_bus_message_append_array)
ABSENT(sd_bus_message_append_basic)
ABSENT(sd_bus_message_append_strv)
ABSENT(sd_bus_message_close_container)
ABSENT(sd_bus_message_new_method_call)
ABSENT(sd_bus_message_open_container)
ABSENT(sd_bus_message_read)
ABSENT(sd_bus_message_unref)
ABSENT(sd_bus_process)
ABSENT(sd_bus_unref)
ABSENT(sd_bus_wait)
ABSENT(sd_journal_send_with_location)
ABSENT(sd_notify)
ABSENT(sd_notify_barrier)
