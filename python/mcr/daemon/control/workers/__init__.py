"""The worker processes as control knows them."""
