"""What every room needs and no room owns: errors, closed config models, file I/O, stage start-up."""
