"""What every command stands on: records, the lock of a home, isolated jobs, configuration, machine, flags."""
