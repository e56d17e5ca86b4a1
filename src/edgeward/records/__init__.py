"""The JSON files that cross a room: one closed model each, the same for who writes and who reads it."""
