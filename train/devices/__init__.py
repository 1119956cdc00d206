"""Where a run's arrays lie: the mesh of all devices, what lies where on it, and the hosts it spans."""
