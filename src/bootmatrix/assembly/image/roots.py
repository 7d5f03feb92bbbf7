"""Image files as a root: no build leftovers, files of a running system."""

from bootmatrix.assembly.tree import Tree, directory, symlink, text_file

LEFT_OUT = (".dockerenv", "Dockerfile", "dev/console", "etc/hostname")
FOLDERS = ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys")
HOSTS = (
    ("127.0.0.1      ", ("localhost",)),
    ("::1    ", ("localhost", "ip6-localhost", "ip6-loopback")),
    ("fe00::0", ("ip6-localnet",)),
    ("ff00::0", ("ip6-mcastprefix",)),
    ("ff02::1", ("ip6-allnodes",)),
    ("ff02::2", ("ip6-allrouters",)),
)
"""Contents of /etc/hosts in every image, as in LinuxKit."""
NO_RESOLV_CONF = "\n# no resolv.conf configured\n"


def completed(tree: Tree, resolv_conf: str = "") -> Tree:
    """Adapt the tree in place, as LinuxKit does; resolv.conf is a link."""
    for path in LEFT_OUT:
        tree.remove(path)
    for path in FOLDERS:
        if tree.get(path) is None:
            tree.put(path, directory())
    if tree.get("etc/mtab") is None:
        tree.put("etc/mtab", symlink("/proc/mounts"))
    tree.put("etc/hosts", text_file("".join(f"{address} {' '.join(names)}\n" for address, names in HOSTS)))
    tree.put("etc/resolv.conf", symlink(resolv_conf) if resolv_conf else text_file(NO_RESOLV_CONF))
    return tree
