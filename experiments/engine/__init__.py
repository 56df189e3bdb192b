"""What every experiment runs on: options, the folder of a run, stages, snapshots, processes."""
