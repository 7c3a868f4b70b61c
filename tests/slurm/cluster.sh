#!/bin/bash
# A Slurm cluster of one node on this machine's loopback, to test with:
#
#   tests/slurm/cluster.sh start FOLDER     then SLURM_CONF=FOLDER/slurm.conf sbatch ...
#   tests/slurm/cluster.sh stop FOLDER
#
# Needs Debian's slurm-wlm and munge; all that it writes is in FOLDER. There is no accounting
# database, and the one GPU that the node offers is a plain device file. FOLDER/bin/srun is srun
# for callers without SLURM_CONF: Snakemake's executor starts it without Slurm's variables.
set -euo pipefail
[[ $# == 2 && $1 =~ ^(start|stop)$ ]] || { sed -n '2,9s/^# \?//p' "$0"; exit 2; }
PATH=$PATH:/usr/sbin
mkdir -p "$2"
folder=$(realpath "$2")
export SLURM_CONF=$folder/slurm.conf

start() {
    local host port
    host=$(hostname -s)
    port=$((20000 + RANDOM % 10000 * 2))
    mkdir -p "$folder"/{state,spool,bin}
    chmod 700 "$folder"
    head -c 1024 /dev/urandom > "$folder/munge.key"
    chmod 400 "$folder/munge.key"
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munge.seed" >> "$folder/start.log" 2>&1
    cat > "$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=1
KillWait=5
MinJobAge=86400
ReturnToService=2
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=4096 Gres=gpu:1 State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    echo "NodeName=$host Name=gpu File=/dev/zero" > "$folder/gres.conf"
    printf '#!/bin/sh\nSLURM_CONF=%q exec %q "$@"\n' "$SLURM_CONF" "$(command -v srun)" \
        > "$folder/bin/srun"
    chmod +x "$folder/bin/srun"
    slurmctld >> "$folder/start.log" 2>&1
    slurmd -N "$host" >> "$folder/start.log" 2>&1
    for _ in {1..60}; do
        if [[ $(sinfo --noheader --format=%T 2> /dev/null) == idle ]]; then return; fi
        sleep 0.5
    done
    echo "the node did not become idle within 30 s; see the logs in $folder" >&2
    exit 1
}

stop() {
    scancel --user="$(id -un)" 2> /dev/null || true
    for _ in {1..20}; do
        [[ $(squeue --noheader 2> /dev/null) ]] || break
        sleep 0.5
    done
    for daemon in slurmd slurmctld munged; do
        pid=$(cat "$folder/$daemon.pid" 2> /dev/null) || continue
        kill "$pid" 2> /dev/null || continue
        for _ in {1..20}; do
            kill -0 "$pid" 2> /dev/null || break
            sleep 0.5
        done
    done
}

"$1"
