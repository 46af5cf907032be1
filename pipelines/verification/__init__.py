"""What anyone can do again: verify, retrain and rebuild what is published."""
