"""The pipeline: preferences in, personal reward models and honest accuracies out, one module per stage."""
