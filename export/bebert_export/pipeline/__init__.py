"""The stages of `bebert train` and the run folder that they share."""

__all__ = [
    "data",
    "full_precision_stage",
    "member_stage",
    "options",
    "results",
    "run_folder",
    "run_readme",
    "settings",
    "speed_probe",
    "student_stage",
    "teacher_stage",
    "transfer",
]
