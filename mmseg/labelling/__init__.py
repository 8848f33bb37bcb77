"""Label many photos: units of work, each done once, by any number of processes."""
