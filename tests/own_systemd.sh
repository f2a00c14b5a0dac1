# A systemd of its own, process 1 of its own namespaces: bash own_systemd.sh PREFIX REPOSITORY PACKAGES
#
# Nothing that it or its services do reaches the machine: its root is an overlay whose writes lie in memory, /proc/sys
# is read-only, and of units there are only those written here. That matters: a target of the distribution's, started
# without these walls, has the machine's /tmp emptied.
set -eu
[ $$ = 1 ] || { echo "to be run by tests/systemd.py, as process 1 of its own namespaces" >&2; exit 1; }
prefix=$1 repository=$2 packages=$3
room=/mnt

mount --make-rprivate /
mount -t tmpfs tmpfs $room
mkdir $room/upper $room/work $room/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" $room/root
cd $room/root
[ -e ".$packages" ] && [ -e ".$prefix" ] || { echo "what Python needs lies on another disk than /" >&2; exit 1; }

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in run tmp var/tmp var/log dev; do mount -t tmpfs tmpfs $folder; done
chmod 1777 tmp var/tmp
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/shm dev/pts run/lock
chmod 1777 dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

# The node where docs/how-to/install.md has it. Python moves too: nobody else may look into root's home.
mkdir -p opt/python opt/fullfield/.venv/bin "opt/fullfield/.venv/lib/$(basename "$(dirname "$packages")")"
mount --bind ".$prefix" opt/python
ln -s "$packages" "opt/fullfield/.venv/lib/$(basename "$(dirname "$packages")")/site-packages"
ln -s /opt/python/bin/python3 opt/fullfield/.venv/bin/python
printf 'home = /opt/python/bin\ninclude-system-site-packages = false\n' >opt/fullfield/.venv/pyvenv.cfg
printf '#!/opt/fullfield/.venv/bin/python\nimport sys\nfrom dicom_node.commands.main import main\nsys.exit(main())\n' \
	>opt/fullfield/.venv/bin/fullfield
chmod 755 opt/fullfield/.venv/bin/fullfield
echo /opt/python/lib >etc/ld.so.conf.d/own-python.conf
chroot . ldconfig
chroot . useradd --system --user-group --home-dir /var/lib/fullfield fullfield

mkdir -p run/units run/systemd
for target in sysinit basic shutdown network-online time-sync multi-user; do
	printf '[Unit]\nDefaultDependencies=no\n' >run/units/$target.target
done
cp "$repository/config/examples/fullfield.service" run/units/

mkdir before
pivot_root . before
umount -l /before
cd /
export container=own SYSTEMD_UNIT_PATH=/run/units PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
