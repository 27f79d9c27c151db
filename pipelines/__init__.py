"""`make rebuild`: runs the stages of DVC's graph that are out of date, several at a time.

A *task* is one stage that a rebuild runs on one device, in a process of its own. The process works in a *workspace*, a
throwaway clone of the project. All workspaces share DVC's run cache, and each task adds its results to it. At the end,
the rebuild records the results from the run cache in the project, and calls `dvc repro` once. So DVC stays the single
source of truth. Nothing in the library imports this package.

| file | purpose |
|---|---|
| `rebuild.py` | the command line of `python -m pipelines.rebuild`, and its `--plan` |
| `flow.py` | the Prefect flow on this machine or a Dask cluster: one Prefect task per stage, retries, artifacts |
| `orchestration.py` | one rebuild from beginning to end, without Prefect: lock, snapshot, schedule, record |
| `stage_graph.py` | DVC's graph of stages: which are up to date or in the run cache, and which have to run |
| `scheduler.py` | the order of the tasks, and how many run at a time |
| `devices.py` | GPUs and CPU cores, and the pool that assigns them to tasks |
| `launcher.py` | one task from outside: starts its process, limits its time, reads its result |
| `stage_process.py` | one task from inside: the process that runs the stage through DVC |
| `workspaces.py` | the throwaway clones in which tasks run |
| `record.py` | brings the results of all tasks into the project; repairs DVC's files after a killed rebuild |
| `lockfile.py` | writes many entries into dvc.lock at once; `record.py` starts it as a process |
| `durations.py` | estimated seconds per stage: from records of earlier runs, else from `default_durations.yaml` |
| `display.py` | the live table, the plan and the summary |
| `prefect_server.py` | `make serve`: a Prefect server, the deployments and a worker |
| `parallel_study.py` | one Optuna study with several workers; separate from a rebuild |
| `jobs.yaml` | the data sets, jobs and studies for which dvc.yaml has stages; `duvae graph` writes the file |
"""
