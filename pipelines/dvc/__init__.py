"""DVC: its processes, stages side by side, and what each stage of ``dvc.yaml`` depends on."""
