# The first process of a node, in namespaces of its own: makes them a machine's. What is written in the node is in memory, and vanishes with it.
# usage: sh node.sh FILE, in which it leaves the number by which the lab knows it, when all is ready
set -eu
# As long as /proc is that of outside, this is the number outside.
read -r outside _ </proc/self/stat

cgroups=$(grep -E ' cgroup2? ' /proc/mounts)
mount -t tmpfs -o mode=755 tmpfs /run
for place in etc opt var; do
    mkdir -p "/run/node/$place/upper" "/run/node/$place/work"
    mount -t overlay -o "lowerdir=/$place,upperdir=/run/node/$place/upper,workdir=/run/node/$place/work" overlay "/$place"
done
mkdir -p /run/netns /run/lock /etc/cni/net.d /opt/cni/bin
# Nobody's but the node's own configuration.
rm -f /etc/cni/net.d/*
mount -t proc proc /proc
mount -t sysfs sysfs /sys

# The same hierarchies, of which only what is the node's is seen.
case $cgroups in
*" /sys/fs/cgroup cgroup2 "*)
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
    done
    ;;
*)
    mount -t tmpfs tmpfs /sys/fs/cgroup
    echo "$cgroups" | while read -r _ at type options _; do
        mkdir -p "$at"
        # Of the options only those that say which hierarchy it is.
        hierarchy=$(echo "$options" | tr , '\n' | grep -vE '^(rw|ro|no.*|relatime|xattr|clone_children|nsdelegate|memory_.*|release_agent=.*)$' | paste -sd , -)
        mount -t "$type" ${hierarchy:+-o "$hierarchy"} "$type" "$at"
    done
    ;;
esac

# The kubelet sets what is the whole machine's unless it is set already. It shall believe that it is.
believe() {
    [ -e "/proc/sys/$1" ] || return 0
    file="/run/node/$(echo "$1" | tr / .)"
    echo "$2" >"$file"
    mount --bind "$file" "/proc/sys/$1"
}
believe vm/overcommit_memory 1
believe vm/panic_on_oom 0
believe kernel/panic 10
believe kernel/panic_on_oops 1
believe kernel/keys/root_maxkeys 1000000
believe kernel/keys/root_maxbytes 25000000

echo "$outside" >"$1.new"
mv "$1.new" "$1"
# Whoever loses its parent becomes a child of this process, which waits for them all.
sleep infinity &
wait
