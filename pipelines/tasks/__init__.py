"""What runs on workers; torch is imported inside, so a stage that submits a task stays light."""
