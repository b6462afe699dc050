# What the first process becomes. job/command is the command, with its environment and directory as a script; its output and
# its status are left beside it. The machine ends with it, or with the first thing before it that fails.
trap 'busybox reboot -f' EXIT
set -e
exec >/dev/console 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
job=/run/vm/job
release=$(uname -r)
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/lib/modules/$release"
mount --bind "$(cat $job/modules)/$release" "/lib/modules/$release"
busybox ip link set lo up
for m in $(cat $job/load); do modprobe "$m"; done
set +e
/bin/sh $job/command >$job/stdout 2>$job/stderr </dev/null
echo $? >$job/status
