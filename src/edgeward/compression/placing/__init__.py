"""Which operators run in integers, by what they take on the device that a recipe names."""
