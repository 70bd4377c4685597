"""The stages of `bebert train` and the run folder that they share."""
