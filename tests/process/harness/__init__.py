"""What the process tests stand on: the relay as a child process, clients that speak raw HTTP, and waiting on conditions."""
