"""Jobs on a cluster: from this machine to the Jobs API, and what keeps them going.

request         a strategy and its flags, as somebody asks for it
connection      which cluster, with which token
submit, ray_jobs, rayjob    a job by the Jobs API, or as a RayJob of KubeRay's; its state and its log
resubmitter     submits a job again that was lost with its head
log_to_storage  keeps a job's log where the sweep is
"""
