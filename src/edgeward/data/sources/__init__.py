"""Where images come from; each module has ``open_source(request) -> Listing``."""
