#!/usr/bin/env bash
# Slurm on this machine alone: a controller, accounting and two nodes, on loopback, in a folder of their own.
#
#   tests/cluster/slurm.sh start FOLDER
#   tests/cluster/slurm.sh kill FOLDER n2  a node dies, with all that runs on it
#   tests/cluster/slurm.sh node FOLDER n2  and comes back
#   tests/cluster/slurm.sh stop FOLDER
#
# Needs root and Debian's slurm-wlm, slurmdbd, munge and mariadb-server. Both nodes are this machine: each promises a third of its
# memory and all its cores. Jobs find the configuration through /etc/slurm/slurm.conf, which must not be there before.
set -euo pipefail
what=$1 at=$(realpath -m "$2") node=${3:-}
export SLURM_CONF="$at/slurm.conf" PATH="/usr/sbin:$PATH"
run() { # name, command: in the background, by itself, with a log and a pid
    local name=$1; shift
    setsid "$@" > "$at/$name.log" 2>&1 < /dev/null & echo $! > "$at/$name.pid"
}
until_true() { for _ in $(seq 300); do "$@" > /dev/null 2>&1 && return; sleep 0.2; done; echo "never: $*" >&2; exit 1; }
slurmd_of() { run "$1" slurmd -D -N "$1" -f "$SLURM_CONF"; }

case $what in
start)
    [ ! -e /etc/slurm/slurm.conf ] || { echo "/etc/slurm/slurm.conf is there: this machine has a Slurm of its own" >&2; exit 1; }
    mkdir -p "$at"/{state,spool,munge,db}; chmod 711 "$at/munge"
    chown root:root "$at" "$at/munge"
    head -c 1024 /dev/urandom > "$at/munge/key"; chmod 400 "$at/munge/key"
    cores=$(nproc) memory=$(awk '/MemTotal/ {print int($2 / 1024 / 3)}' /proc/meminfo)
    cat > "$at/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthInfo=socket=$at/munge/socket
StateSaveLocation=$at/state
SlurmdSpoolDir=$at/spool/%n
SlurmctldPidFile=$at/slurmctld.own
SlurmdPidFile=$at/%n.own
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
MinJobAge=300
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStoreFlags=job_comment
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
AccountingStoragePass=$at/munge/socket
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=16821 CPUs=$cores RealMemory=$memory State=UNKNOWN
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=16822 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=here Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
    mkdir -p /etc/slurm; ln -s "$at/slurm.conf" /etc/slurm/slurm.conf
    cat > "$at/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$at/munge/socket
DbdHost=$(hostname -s)
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
PidFile=$at/slurmdbd.own
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=16306
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
CONF
    chmod 600 "$at/slurmdbd.conf"
    run munged munged --foreground --force --key-file="$at/munge/key" --socket="$at/munge/socket" \
        --pid-file="$at/munge/pid" --log-file="$at/munge/log" --seed-file="$at/munge/seed"
    mariadb-install-db --no-defaults --datadir="$at/db" --user=root --auth-root-authentication-method=socket > "$at/db.log" 2>&1
    run mariadbd mariadbd --no-defaults --user=root --datadir="$at/db" --socket="$at/db.socket" --bind-address=127.0.0.1 \
        --port=16306 --pid-file="$at/db.own"
    until_true mariadb --no-defaults --socket="$at/db.socket" -e "select 1"
    mariadb --no-defaults --socket="$at/db.socket" -e \
        "create database slurm; create user slurm@'127.0.0.1' identified by 'slurm'; grant all on slurm.* to slurm@'127.0.0.1'"
    run slurmdbd slurmdbd -D
    until_true sacctmgr -n show cluster
    sacctmgr -i add cluster here > /dev/null 2>&1 || true
    run slurmctld slurmctld -D -f "$SLURM_CONF"
    until_true scontrol ping
    sacctmgr -i add account here > /dev/null
    sacctmgr -i add user root account=here > /dev/null
    slurmd_of n1; slurmd_of n2
    until_true sh -c '[ "$(sinfo -h -t idle -o %D)" = 2 ]'
    ;;
node) slurmd_of "$node" ;;
kill)
    # A machine that loses power: the daemon, and what it started.
    for step in $(pgrep -f "slurmstepd: \[" || true); do
        [ "$(tr '\0' '\n' < "/proc/$step/environ" 2> /dev/null | grep -c "^SLURMD_NODENAME=$node$")" != 0 ] || continue
        kill -9 -- "-$(ps -o pgid= -p "$step" | tr -d ' ')" 2> /dev/null || true
    done
    kill -9 "$(cat "$at/$node.pid")"
    ;;
stop)
    scancel --user=root > /dev/null 2>&1 || true
    for name in n1 n2 slurmctld slurmdbd mariadbd munged; do
        [ -f "$at/$name.pid" ] && kill "$(cat "$at/$name.pid")" 2> /dev/null || true
    done
    [ "$(readlink /etc/slurm/slurm.conf)" != "$at/slurm.conf" ] || rm /etc/slurm/slurm.conf
    ;;
*) sed -n '2,10s/^# \?//p' "$0" >&2; exit 2 ;;
esac
