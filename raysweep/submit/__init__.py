"""Jobs on a cluster: submits them from this machine, follows them, and submits lost ones again.

request         a requested job: a strategy and its flags
requirements    what it needs that is not in the image
connection      the cluster to connect to, and its token
variables       what environment variables the job is given
flag_check      what is wrong with its flags
submit, ray_jobs, rayjob    a job by the Jobs API, or as a RayJob of KubeRay; its state and its log
kueue           what a RayJob waits for in a queue of Kueue
resubmitter     submits a job again that was lost with its head
log_to_storage, stored_log  save a job's log in the sweep's storage, and read it there
"""
