"""Why a model takes the time that it takes: its kernels against what the device can do."""
