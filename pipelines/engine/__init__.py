"""What training stages share: jobs, the workers they run on, and what is kept of them."""
