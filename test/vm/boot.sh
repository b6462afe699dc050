#!/bin/busybox sh
# The first process. It ends by becoming start.sh, with the host's file system as root: read from the host, written to memory.
set -e
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for m in /modules/*; do $b insmod "$m"; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host
$b mount -t tmpfs memory /memory
$b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /new
$b mount -t tmpfs memory /new/run
$b mkdir /new/run/vm /new/run/vm/job
$b cp /start /new/run/vm/start
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 job /new/run/vm/job
# The host's own /proc and /sys must not be seen: the first is that of the program which emulates the machine.
$b mount --move /proc /new/proc
$b mount --move /dev /new/dev
$b mount -t sysfs sysfs /new/sys
exec $b switch_root /new /bin/busybox sh /run/vm/start
