#!/bin/busybox sh
# A guest's first process: finds the host's root file system, puts a layer of memory over it, and goes there.
bb=/bin/busybox

fail() {
    echo "vm: $*"
    echo o > /proc/sysrq-trigger
    $bb sleep 60
}

$bb mkdir -p /proc /sys /dev /lower /scratch /new
$bb mount -t proc proc /proc || fail "no /proc"
$bb mount -t sysfs sys /sys || fail "no /sys"
$bb mount -t devtmpfs dev /dev || fail "no /dev"

for module in $($bb cat /vm/modules/order); do
    $bb insmod "/vm/modules/$module" || fail "the module $module cannot be loaded"
done

$bb mount -t virtiofs -o ro rootfs /lower || fail "the host's root file system cannot be mounted"
$bb mount -t tmpfs -o size=75%,mode=755 scratch /scratch || fail "no memory for a scratch layer"
$bb mkdir /scratch/upper /scratch/work
$bb mount -t overlay -o lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work root /new ||
    fail "no scratch layer over the host's root file system"

for directory in proc sys dev run; do
    $bb mkdir -p "/new/$directory"
done
$bb mount -t tmpfs -o mode=755 run /new/run || fail "no /run"
$bb mkdir -p /new/run/vm /new/run/lock
$bb cp /bin/busybox /vm/* /new/run/vm/ 2>/dev/null

# Where the kernel itself looks for modules, when somebody asks for a device of theirs.
modules=/new/lib/modules/$($bb uname -r)
$bb mkdir -p /new/lib/modules
[ -e "$modules/modules.dep" ] || $bb ln -sfn "$($bb cat /vm/modules/from)" "$modules"

for directory in proc sys dev; do
    $bb mount --move "/$directory" "/new/$directory"
done
exec $bb switch_root /new /run/vm/busybox sh /run/vm/guest.sh
