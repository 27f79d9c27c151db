"""`make rebuild`: runs the stages of DVC's graph that are out of date, several at a time.

A *task* is one stage that a rebuild runs on one device (a GPU, or some CPU cores), in a process of its own. The process
works in a *workspace*, a throwaway clone of the project. All workspaces share DVC's run cache, which finds the outputs
of earlier runs by the hashes of the runs' inputs. Each task adds its results to the run cache. At the end, the rebuild
records these results in the project, and calls `dvc repro` once. So DVC stays the single source of truth. The library
`duvae` does not import this package.

| file | purpose |
|---|---|
| `rebuild.py` | the command line of `python -m pipelines.rebuild`, and its option `--plan` |
| `flow.py` | the Prefect flow: one Prefect task per stage, on this machine or on a Dask cluster; retries, tables |
| `orchestration.py` | runs one rebuild: locks the project, takes a snapshot of it, schedules tasks, records results |
| `stage_graph.py` | reads DVC's graph, and finds the stages that are up to date, in the run cache, or have to run |
| `scheduler.py` | decides the order of the tasks, and how many tasks run at a time |
| `devices.py` | finds the GPUs or CPU cores that a rebuild uses |
| `slots.py` | chooses how many tasks share a GPU, from memory, busy time and cores |
| `pool.py` | assigns devices to tasks; runs a task alone if its memory ran out; leaves GPUs that were lost |
| `failures.py` | defines the kinds of failures of a task, and the exit statuses that tell them |
| `launcher.py` | starts the process of one task, limits its time, and reads its result |
| `stage_process.py` | the program that the process of a task executes: runs the stage through DVC |
| `workspaces.py` | creates and removes the throwaway clones in which tasks run |
| `record.py` | brings the results of all tasks into the project; repairs DVC's files after a killed rebuild |
| `lockfile.py` | writes the hashes of many stages into dvc.lock at once; `record.py` starts it as a process |
| `durations.py` | estimates the seconds of each stage from earlier runs, or else from `default_durations.yaml` |
| `gpu_times.py` | estimates times on a GPU, from the work (`gpu_counts.yaml`) and the card (`gpu_rates.yaml`) |
| `makespan.py` | computes how long a rebuild takes from start to end |
| `forecast.py` | puts durations, scheduler and slots together before the first task |
| `paper_runs.py` | writes the estimates into docs/paper-runs.md |
| `display.py` | shows the live table, the plan and the summary |
| `watchdog.py` | ends the children of a command that was killed |
| `owners.py` | marks the processes that a command starts, and finds those whose command has ended |
| `signals.py` | ends a command in an orderly way after Ctrl-C, SIGTERM or SIGHUP |
| `prefect_api.py` | checks that the user's Prefect server answers |
| `prefect_home.py` | keeps Prefect's database in the project |
| `flow_runs.py` | names the runs on Prefect's page, and ends those of killed rebuilds |
| `ports.py` | checks that a server can listen on a port |
| `prefect_server.py` | `make serve`: a Prefect server and a worker, which rebuild on request and every night |
| `parallel_study.py` | runs one Optuna study with several worker processes; not part of a rebuild |
| `jobs.yaml` | lists the data sets, jobs (trainings) and studies of dvc.yaml's stages; `duvae graph` writes the file |
"""
