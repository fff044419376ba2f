"""Who makes passes: this process, processes of this machine, or a cluster; a module each."""
