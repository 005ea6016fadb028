#!/bin/sh
# Boots a real systemd in new namespaces, on an overlay of the root of this machine.
# All writes go to a tmpfs. systemd is killed when the process of this script exits.
#
#   unshare --mount sh boot.sh DIR
set -eu
dir=$1
if [ "${2:-}" != inside ]; then
	mount --make-rprivate /
	mount -t tmpfs tmpfs "$dir"
	mkdir "$dir/groups" "$dir/upper" "$dir/work" "$dir/root"
	mount -t cgroup2 cgroup2 "$dir/groups"
	mkdir "$dir/groups/inbox-boot-$$"
	echo $$ >"$dir/groups/inbox-boot-$$/cgroup.procs"
	exec unshare --cgroup --pid --net --uts --ipc --fork --kill-child=KILL sh "$0" "$dir" inside
fi
umount "$dir/groups"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cd "$dir/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for name in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$name"; done
for device in null:3 zero:5 full:7 random:8 urandom:9; do
	mknod -m 666 "dev/${device%:*}" c 1 "${device#*:}"
done
mknod -m 666 dev/tty c 5 0
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
# A new machine ID, and no enabled units.
: >etc/machine-id
rm -rf etc/systemd/system/*.wants etc/systemd/system/inbox*
printf '[Unit]\nRequires=systemd-journald.service\nAfter=systemd-journald.service\n' >etc/systemd/system/test.target
ip link set lo up
mkdir old
pivot_root . old
umount -l old
mount --make-rshared / # as systemd does as the first process of a machine; credentials require it
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=test.target --log-target=journal
