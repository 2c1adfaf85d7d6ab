"""Living state: carries out what the scheduler decides, and tells it what happened."""
