"""Every environment variable that the package reads or sets: who sets it, and who reads it.

The package refers to variables only by these names; a test checks that. The README lists those that users may set.
"""

# Of this kit. Set by the user, or by a cluster's head for its jobs.
RAYSWEEP_STORAGE = "RAYSWEEP_STORAGE"  # storage of the sweeps; read by every command and job without --storage
RAYSWEEP_NODES = "RAYSWEEP_NODES"  # how far groups may grow; set by k8s/ and cluster.yaml, read by driver.capacity
RAYSWEEP_JOBS = "RAYSWEEP_JOBS"  # set by targets with a resubmitter; read by jobs: the storage of their tickets
RAYSWEEP_SEALED = "RAYSWEEP_SEALED"  # set by submit in a job: its variables of `--env`, see `raysweep.sealed`
RAYSWEEP_CLUSTER_ID = "RAYSWEEP_CLUSTER_ID"  # set for each process of a local cluster; `down` ends those that have it

RAYSWEEP_CHECKPOINT = "RAYSWEEP_CHECKPOINT"  # set for a script of `raysweep wrap`: the folder of its checkpoint

# Images. Set by the user, or by whoever built them; read by docker/compose.yaml and the Kubernetes targets.
RAYSWEEP_IMAGE = "RAYSWEEP_IMAGE"
RAYSWEEP_STORE_IMAGE = "RAYSWEEP_STORE_IMAGE"
KIND_NODE_IMAGE = "KIND_NODE_IMAGE"  # image of kind's nodes; kind's default if it is not set
KUBERAY_MANIFESTS = "KUBERAY_MANIFESTS"  # folder with KubeRay's operator; its release on the web if it is not set

# Of docker/compose.yaml. Set by clusters.docker in compose.env; the first two also by the user, as they have no flag.
RAYSWEEP_TMP = "RAYSWEEP_TMP"
RAYSWEEP_HEAD_MEMORY = "RAYSWEEP_HEAD_MEMORY"
RAYSWEEP_HEAD_CPUS = "RAYSWEEP_HEAD_CPUS"
RAYSWEEP_WORKERS = "RAYSWEEP_WORKERS"
RAYSWEEP_WORKER_CPUS = "RAYSWEEP_WORKER_CPUS"
RAYSWEEP_WORKER_MEMORY = "RAYSWEEP_WORKER_MEMORY"
RAYSWEEP_DASHBOARD_PORT = "RAYSWEEP_DASHBOARD_PORT"
RAYSWEEP_S3_PORT = "RAYSWEEP_S3_PORT"
RAYSWEEP_SECRETS = "RAYSWEEP_SECRETS"
RAYSWEEP_PACKAGE = "RAYSWEEP_PACKAGE"  # the kit's code, for the resubmitter
RAYSWEEP_USER = "RAYSWEEP_USER"
COMPOSE_PROJECT_NAME = "COMPOSE_PROJECT_NAME"
COMPOSE_FILE = "COMPOSE_FILE"

# Of Ray. Set by the user or a cluster's head, read by Ray and by what connects to a cluster.
RAY_ADDRESS = "RAY_ADDRESS"
RAY_API_SERVER_ADDRESS = "RAY_API_SERVER_ADDRESS"
RAY_AUTH_MODE = "RAY_AUTH_MODE"
RAY_AUTH_TOKEN = "RAY_AUTH_TOKEN"  # never set by us: the environment of a trial must not hold the token
RAY_AUTH_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
RAY_JOB_CONFIG_JSON_ENV_VAR = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in a job: the job's settings, as JSON
# Set for the head of a local cluster, see clusters.local.environment.
RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
RAY_JOB_STOP_SIGNAL = "RAY_JOB_STOP_SIGNAL"
RAY_JOB_STOP_WAIT_TIME_S = "RAY_JOB_STOP_WAIT_TIME_S"
# How large a log of Ray's may grow, those of workers too, and how many older ones are kept.
RAY_ROTATION_MAX_BYTES = "RAY_ROTATION_MAX_BYTES"
RAY_ROTATION_BACKUP_COUNT = "RAY_ROTATION_BACKUP_COUNT"
RAY_START_HOOK = "RAY_START_HOOK"
RAY_USAGE_STATS_ENABLED = "RAY_USAGE_STATS_ENABLED"
RAY_enable_metrics_collection = "RAY_enable_metrics_collection"  # 0: Ray has no metrics, and sweeps set none
RAY_CHDIR_TO_TRIAL_DIR = "RAY_CHDIR_TO_TRIAL_DIR"  # 0: code for Ray Tune runs in the project's folder, not in its own
SPT_NOENV = "SPT_NOENV"  # read by setproctitle, which Ray uses

# Of S3. Set by the user, or for the store of a cluster of ours; read by boto3.
AWS_ACCESS_KEY_ID = "AWS_ACCESS_KEY_ID"
AWS_SECRET_ACCESS_KEY = "AWS_SECRET_ACCESS_KEY"
AWS_SESSION_TOKEN = "AWS_SESSION_TOKEN"
AWS_PROFILE = "AWS_PROFILE"
AWS_ENDPOINT_URL = "AWS_ENDPOINT_URL"
AWS_ENDPOINT_URL_S3 = "AWS_ENDPOINT_URL_S3"
AWS_DEFAULT_REGION = "AWS_DEFAULT_REGION"
AWS_SHARED_CREDENTIALS_FILE = "AWS_SHARED_CREDENTIALS_FILE"

# Of torch, by the names that torchrun has for them. Set in the workers of a trial that has several, see trial.workers.
MASTER_ADDR = "MASTER_ADDR"
MASTER_PORT = "MASTER_PORT"
RANK = "RANK"
WORLD_SIZE = "WORLD_SIZE"
LOCAL_RANK = "LOCAL_RANK"
LOCAL_WORLD_SIZE = "LOCAL_WORLD_SIZE"
NODE_RANK = "NODE_RANK"
CUDA_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"  # a worker's own GPUs, by Ray; then all of its trial there, or none
GLOO_SOCKET_IFNAME = "GLOO_SOCKET_IFNAME"  # the user's own is kept

# Of the machine.
DOCKER_BUILDKIT = "DOCKER_BUILDKIT"  # set for `docker build`: the Dockerfile mounts secrets and caches
SSL_CERT_FILE = "SSL_CERT_FILE"  # certificates to trust, also while the images are built
KUBECONFIG = "KUBECONFIG"  # set for minikube, which would otherwise write to the user's own
NO_PROXY = "NO_PROXY"  # set while a client is created: no proxy can reach this machine's own ports
PYTHONUNBUFFERED = "PYTHONUNBUFFERED"  # set for a script of `raysweep wrap`, whose output is read line by line
PATH = "PATH"  # set for the head of a local cluster, so that `python` is the one that has Ray
TMPDIR = "TMPDIR"  # set for the head of a local cluster, so that its temporary files are removed with it
