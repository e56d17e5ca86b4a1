#!/bin/sh
# Serve this machine as the device of config/profile/loopback.yaml, until Ctrl-C: an SSH server on loopback
# with keys and settings of its own, which lets in only the user who starts it. Needs OpenSSH's server.
#
#     tools/loopback_device.sh [port, by default 2222]
set -eu

port=${1:-2222}
folder=$(pwd)/.edgeward/devices/loopback
server=$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v sshd) || {
    echo "sshd is missing: install OpenSSH's server (Debian: openssh-server)" >&2
    exit 1
}
test -x .venv/bin/python3 || { echo "run this in the project, after \`make .venv/ready\`" >&2; exit 1; }

mkdir -p "$folder/bin"
chmod 700 "$folder"
# A name of its own, since the shell's start-up files may put another python3 first on the PATH.
printf '#!/bin/sh\nexec "%s/.venv/bin/python3" "$@"\n' "$(pwd)" >"$folder/bin/edgeward-python"
chmod 700 "$folder/bin/edgeward-python"
for key in host user; do
    test -f "$folder/$key" || ssh-keygen -q -t ed25519 -N "" -C edgeward-loopback -f "$folder/$key"
done
printf '[127.0.0.1]:%s %s\n' "$port" "$(cat "$folder/host.pub")" >"$folder/known_hosts"
cat >"$folder/sshd_config" <<EOF
ListenAddress 127.0.0.1:$port
HostKey $folder/host
AuthorizedKeysFile $folder/user.pub
AllowUsers $(id -un)
SetEnv PATH=$folder/bin:$PATH
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
EOF
test "$(id -u)" -ne 0 || mkdir -p /run/sshd # the server insists on this empty folder
echo "serving on 127.0.0.1:$port"
exec "$server" -D -e -f "$folder/sshd_config"
