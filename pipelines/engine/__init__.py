"""What training stages share: finished work is kept, the rest becomes jobs for the workers."""
