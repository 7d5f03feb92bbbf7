/* Records of files and folders, as `put` reads and `get` writes them. All numbers are big-endian. */
#ifndef BOOTMATRIX_AGENT_TREE_H
#define BOOTMATRIX_AGENT_TREE_H

/* type, mode (4 bytes), size (8), seconds since 1970 (8), length of the path (2), length of the link's target (2); then the
 * path below the top (empty for the top itself), the target, and of a file `size` bytes. */
#define RECORD_BYTES 25
#define RECORD_TEXT 4096

enum record_type {
	RECORD_FILE = 'f',
	RECORD_FOLDER = 'd',
	RECORD_LINK = 'l',
	RECORD_OTHER = 'o', /* a device, socket or pipe, which is not read: its mode says which */
	RECORD_OWNER = 'm', /* of the record that follows; its target is a text, see send_owner */
	RECORD_FAULT = 'x', /* its size is the errno */
	RECORD_END = 'e'
};

#endif
