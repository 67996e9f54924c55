"""One module per stage of dvc.yaml; a stage imports no stage."""
