#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command in a root folder as if it were a machine of its own. Started inside a new mount and process namespace:
# when it ends, every mount made here and every process left is gone with them.
#
# usage: clean_room.sh ROOT COMMAND…
set -eu
root=$1
shift
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mkdir -p .old
pivot_root . .old
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount --rbind /.old/dev /dev
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
umount -l /.old
cd /root/millrace
exec "$@"
