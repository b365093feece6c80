# A guest's first process once the root file system is there: makes the machine usable, runs the command, tells its status.
bb=/run/vm/busybox

$bb mkdir -p /dev/pts /dev/shm
$bb mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
$bb mount -t tmpfs -o mode=1777 shm /dev/shm
$bb mount -t cgroup2 cgroup2 /sys/fs/cgroup
$bb ln -sfn /proc/self/fd /dev/fd
# Device files of modules that are loaded when somebody opens them, as every distribution makes them at its start (kmod static-nodes).
while read -r module name number; do
    case $number in c*:*) ;; *) continue ;; esac
    major=${number%%:*}
    $bb mkdir -p "/dev/$($bb dirname "$name")"
    [ -e "/dev/$name" ] || $bb mknod -m 600 "/dev/$name" c "${major#c}" "${number##*:}"
done < "/lib/modules/$($bb uname -r)/modules.devname"
$bb ip link set lo up
$bb hostname guest
echo "vm: up"
# Errors of the kernel, and nothing else, on the console.
echo 4 > /proc/sys/kernel/printk

for port in /sys/class/virtio-ports/*; do
    $bb ln -s "/dev/${port##*/}" "/run/vm/port.$($bb cat "$port/name")"
done

# A port can be opened once, and whoever inherits it may want to open it again: hence the pipes.
$bb mkfifo /run/vm/out /run/vm/err
$bb cat /run/vm/out > /run/vm/port.out &
out=$!
$bb cat /run/vm/err > /run/vm/port.err &
err=$!

/bin/sh /run/vm/run.sh < /dev/null > /run/vm/out 2> /run/vm/err
status=$?

# Whoever still runs holds the pipes open: what is in them by then is all that counts.
(
    $bb sleep 5
    $bb kill $out $err
) 2> /dev/null &
wait $out $err 2> /dev/null

[ -f /run/vm/result ] && $bb cat /run/vm/result > /run/vm/port.result
echo $status > /run/vm/port.status
echo o > /proc/sysrq-trigger
$bb sleep 60
