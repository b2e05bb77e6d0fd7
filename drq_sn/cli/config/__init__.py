"""From a command line to a configuration, and from a configuration to objects."""
