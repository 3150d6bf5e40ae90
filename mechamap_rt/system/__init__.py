"""What a process needs of the machine: sockets, shared memory, the service manager, the collector, its figures."""
